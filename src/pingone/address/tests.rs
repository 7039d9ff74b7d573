use super::*;
use crate::device::{DeviceId, UserId};
use std::error::Error;

const ENVIRONMENT: &str = "abfba8f6-49eb-49f5-a5d9-80ad5c98f9f6";

#[test]
fn the_version_appears_once_however_the_api_path_was_written() -> Result<(), Box<dyn Error>> {
    for (written, meant) in [
        ("https://api.pingone.eu", "https://api.pingone.eu/v1"),
        ("https://api.pingone.eu/", "https://api.pingone.eu/v1"),
        ("https://api.pingone.eu/v1", "https://api.pingone.eu/v1"),
        ("https://api.pingone.eu/v1/", "https://api.pingone.eu/v1"),
        ("https://api.pingone.eu/v1/v1", "https://api.pingone.eu/v1"),
        ("https://API.pingone.eu:443//V1//", "https://api.pingone.eu/v1"),
        (" https://gateway.example/pingone \n", "https://gateway.example/pingone/v1"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080/v1"),
        ("http://[::1]:8080/v1", "http://[::1]:8080/v1"),
        ("http://localhost:8080/v1", "http://localhost:8080/v1"),
    ] {
        assert_eq!(ApiPath::parse(written)?.to_string(), meant, "{written}");
    }
    Ok(())
}

#[test]
fn each_mistake_in_an_api_path_has_its_own_remedy() {
    for (written, mistake) in [
        ("", AddressError::NotAUrl),
        ("{{apiPath}}", AddressError::NotAUrl),
        ("api.pingone.eu/v1", AddressError::NotAUrl),
        ("http://api.pingone.eu/v1", AddressError::NotHttps),
        ("http://127.0.0.1.example.com/v1", AddressError::NotHttps),
        ("http://localhost.example.com/v1", AddressError::NotHttps),
        ("http://192.168.0.1/v1", AddressError::NotHttps),
        ("ftp://localhost/v1", AddressError::NotHttps),
        ("https://me:secret@api.pingone.eu/v1", AddressError::Credentials),
        ("https://api.pingone.eu@example.com/v1", AddressError::Credentials),
        ("https://api.pingone.eu%2f@example.com", AddressError::Credentials),
        ("https://api.pingone.eu\\@example.com/v1#", AddressError::Fragment),
        ("https://169.254.169.254/v1", AddressError::LinkLocal),
        ("https://2852039166/v1", AddressError::LinkLocal),
        ("https://0xa9.0xfe.0xa9.0xfe", AddressError::LinkLocal),
        ("https://[fe80::1]/v1", AddressError::LinkLocal),
        ("https://[::ffff:169.254.169.254]/v1", AddressError::LinkLocal),
        ("https://0.0.0.0/v1", AddressError::LinkLocal),
        ("http://169.254.169.254/v1", AddressError::NotHttps),
        ("http://0.0.0.0:8080/v1", AddressError::NotHttps),
        ("http://[::ffff:192.168.0.1]/v1", AddressError::NotHttps),
        ("file:///etc/passwd", AddressError::NotAUrl),
        ("gopher://localhost/v1", AddressError::NotHttps),
        ("https://api.pingone.eu?/v1", AddressError::Query),
        ("https://api.pingone.eu/v1?expand=x", AddressError::Query),
        ("https://api.pingone.eu/v1#x", AddressError::Fragment),
        ("https://api.pingone.eu/v1/environments", AddressError::PastTheVersion),
        ("https://api.pingone.eu/environments/x", AddressError::PastTheVersion),
        ("https://api.pingone.eu/v1/more", AddressError::PastTheVersion),
    ] {
        assert_eq!(ApiPath::parse(written), Err(mistake), "{written}");
    }
}

#[test]
fn an_auth_path_is_the_base_alone() -> Result<(), Box<dyn Error>> {
    let base = AuthPath::parse("https://auth.pingone.eu/")?;
    let environment = EnvironmentId::parse(ENVIRONMENT)?;
    assert_eq!(
        base.token_endpoint(environment).as_str(),
        format!("https://auth.pingone.eu/{ENVIRONMENT}/as/token")
    );
    for (written, mistake) in [
        ("https://auth.pingone.eu/v1".to_owned(), AddressError::PastTheBase),
        ("https://auth.pingone.eu/as/token".to_owned(), AddressError::PastTheBase),
        (format!("https://auth.pingone.eu/{ENVIRONMENT}"), AddressError::PastTheBase),
        ("http://auth.pingone.eu".to_owned(), AddressError::NotHttps),
    ] {
        assert_eq!(AuthPath::parse(&written), Err(mistake), "{written}");
    }
    Ok(())
}

#[test]
fn a_device_is_addressed_as_the_documentation_does() -> Result<(), Box<dyn Error>> {
    let device = DeviceRef {
        environment: EnvironmentId::parse(ENVIRONMENT)?,
        user: UserId::parse("b30ac647-e33e-464f-a6ea-0275082d4c26")?,
        device: DeviceId::parse("6697f628-7712-4e71-b52b-920ba0635020")?,
    };
    let devices = "https://api.pingone.eu/v1/environments/abfba8f6-49eb-49f5-a5d9-80ad5c98f9f6\
                   /users/b30ac647-e33e-464f-a6ea-0275082d4c26/devices";
    let api = Region::Eu.api_path();
    assert_eq!(api.devices(device.environment, device.user).as_str(), devices);
    assert_eq!(api.device(&device).as_str(), format!("{devices}/6697f628-7712-4e71-b52b-920ba0635020"));
    Ok(())
}

#[test]
fn every_region_reads_back_and_has_its_addresses() {
    for region in Region::ALL {
        assert_eq!(region.to_string().parse(), Ok(region));
        assert_eq!(region.api_path().to_string(), format!("https://api.pingone.{region}/v1"));
        assert_eq!(region.auth_path().to_string(), format!("https://auth.pingone.{region}/"));
    }
    assert_eq!("COM.AU".parse(), Ok(Region::ComAu));
    assert!("us".parse::<Region>().is_err());
}
