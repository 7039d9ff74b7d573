//! The bytes on the wire, read by a listener that knows no HTTP.

use std::io;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::*;

/// One request, and whether anything came after its headers.
struct Heard {
    head: String,
    body: String,
}

/// Answers the next requests of one connection, and returns them.
async fn answer(listener: TcpListener, answers: &[&str]) -> io::Result<Vec<Heard>> {
    let (mut stream, _) = listener.accept().await?;
    let mut heard = Vec::new();
    for answer in answers {
        heard.push(hear(&mut stream).await?);
        stream.write_all(answer.as_bytes()).await?;
    }
    Ok(heard)
}

async fn hear(stream: &mut TcpStream) -> io::Result<Heard> {
    let mut text = String::new();
    loop {
        let mut bytes = [0; 4096];
        let read = stream.read(&mut bytes).await?;
        text.push_str(&String::from_utf8_lossy(&bytes[..read]));
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.to_ascii_lowercase().lines().find_map(|line| {
                line.strip_prefix("content-length: ").and_then(|length| length.parse().ok())
            });
            if read == 0 || body.len() >= length.unwrap_or(0_usize) {
                return Ok(Heard { head: head.to_owned(), body: body.to_owned() });
            }
        } else if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

const UNBLOCKED: &str = "HTTP/1.1 204 No Content\r\n\r\n";
const PATH: &str = "/v1/environments/abfba8f6-49eb-49f5-a5d9-80ad5c98f9f6\
                    /users/b30ac647-e33e-464f-a6ea-0275082d4c26/devices/6697f628-7712-4e71-b52b-920ba0635020";

#[tokio::test]
async fn the_request_is_that_of_the_documentation_and_the_connection_is_kept() -> Tested {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let token = Credential::AccessToken(SecretString::from("the.access.token"));
    let client = Client::new(Settings::new(api(address)?, token))?;
    let served = tokio::spawn(async move { answer(listener, &[UNBLOCKED, UNBLOCKED]).await });
    let job = job();
    for _ in 0..2 {
        let answer = client.unblock(&example(), job, &Origin { trace_parent: Some(TRACE), resent: 0 }).await;
        assert!(answer.outcome.is_ok(), "{answer:?}");
    }
    for heard in served.await?? {
        let mut lines: Vec<String> = heard.head.lines().map(str::to_ascii_lowercase).collect();
        assert_eq!(lines.remove(0), format!("post {PATH} http/1.1"));
        lines.sort();
        let expected = [
            "accept: application/json, application/hal+json".to_owned(),
            "authorization: bearer the.access.token".to_owned(),
            "content-length: 0".to_owned(),
            "content-type: application/vnd.pingidentity.device.unblock+json".to_owned(),
            format!("host: {address}"),
            format!("traceparent: {TRACE}"),
            format!("user-agent: pingone-unblock/{}", env!("CARGO_PKG_VERSION")),
            format!("x-ping-external-transaction-id: {job}"),
        ];
        assert_eq!(lines, expected);
        assert_eq!(heard.body, "");
    }
    Ok(())
}

#[tokio::test]
async fn a_list_is_asked_for_as_the_documentation_does() -> Tested {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let token = Credential::AccessToken(SecretString::from("the.access.token"));
    let client = Client::new(Settings::new(api(address)?, token))?;
    let empty = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{\"size\":0}";
    let served = tokio::spawn(async move { answer(listener, &[empty]).await });
    let job = job();
    let listed = client
        .list_devices(environment(), example().user, job, &Origin { trace_parent: Some(TRACE), resent: 0 })
        .await;
    assert!(listed.outcome.is_ok(), "{listed:?}");
    let heard = served.await??.pop().ok_or("nothing was heard")?;
    let mut lines: Vec<String> = heard.head.lines().map(str::to_ascii_lowercase).collect();
    let path = PATH.rsplit_once('/').map(|(path, _)| path).unwrap_or_default();
    assert_eq!(lines.remove(0), format!("get {path} http/1.1"));
    lines.sort();
    let expected = [
        "accept: application/json, application/hal+json".to_owned(),
        "authorization: bearer the.access.token".to_owned(),
        format!("host: {address}"),
        format!("traceparent: {TRACE}"),
        format!("user-agent: pingone-unblock/{}", env!("CARGO_PKG_VERSION")),
        format!("x-ping-external-transaction-id: {job}"),
    ];
    assert_eq!(lines, expected);
    assert_eq!(heard.body, "");
    Ok(())
}

#[tokio::test]
async fn the_secret_goes_where_the_application_is_set_up_to_take_it() -> Tested {
    let granted = "HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n{\"access_token\":\"t\"}";
    for (method, header, form) in [
        (ClientAuth::Basic, Some("authorization: Basic aWQ6cyUyNmNy"), "grant_type=client_credentials"),
        (ClientAuth::Post, None, "grant_type=client_credentials&client_id=id&client_secret=s%26cr"),
    ] {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let credential = Credential::ClientSecret {
            auth: AuthPath::parse(&format!("http://{address}"))?,
            environment: environment(),
            client_id: "id".to_owned(),
            client_secret: SecretString::from("s&cr"),
            method,
        };
        let client = Client::new(Settings::new(api(address)?, credential))?;
        let served = tokio::spawn(async move { answer(listener, &[granted]).await });
        assert_eq!(client.check_credential().await, Ok(()));
        let heard = served.await??.pop().ok_or("nothing was heard")?;
        assert!(heard.head.starts_with(&format!("POST /{}/as/token HTTP/1.1\r\n", environment())));
        assert_eq!(heard.head.lines().find(|line| line.starts_with("authorization")), header);
        assert!(heard.head.contains("content-type: application/x-www-form-urlencoded"), "{}", heard.head);
        assert_eq!(heard.body, form);
    }
    Ok(())
}

#[tokio::test]
async fn a_secret_that_is_quoted_back_is_not_repeated() -> Tested {
    let quoted = format!("{} is wrong", simulator::CLIENT_SECRET);
    for body in [
        serde_json::json!({ "error": "invalid_client", "error_description": quoted }).to_string(),
        serde_json::json!({ "code": "INVALID_DATA", "message": quoted }).to_string(),
    ] {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let client = Client::new(Settings::new(api(address)?, worker(address, ClientAuth::Post)?))?;
        let refusal = format!("HTTP/1.1 400 Bad\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let served = tokio::spawn(async move { answer(listener, &[&refusal]).await });
        let failure = client.check_credential().await.err().ok_or("the secret was accepted")?;
        assert!(failure.message.ends_with(": [redacted] is wrong"), "{}", failure.message);
        served.await??;
    }
    Ok(())
}

/// The answer of a server that does not speak TLS must not get it the token.
#[tokio::test]
async fn without_tls_the_token_is_not_sent() -> Tested {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let secure = ApiPath::parse(&format!("https://{}", listener.local_addr()?))?;
    let token = Credential::AccessToken(SecretString::from("the.access.token"));
    let client = Client::new(Settings::new(secure, token))?;
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await?;
        let mut bytes = vec![0; 4096];
        let read = stream.read(&mut bytes).await?;
        stream.write_all(UNBLOCKED.as_bytes()).await?;
        io::Result::Ok(String::from_utf8_lossy(&bytes[..read]).into_owned())
    });
    let answer = unblock(&client).await;
    let failure = answer.outcome.err().ok_or("the attempt succeeded")?;
    assert!(failure.message.contains("nothing was sent"), "{}", failure.message);
    assert_eq!(answer.requests, 0);
    assert!(!served.await??.contains("the.access.token"));
    Ok(())
}

#[tokio::test]
async fn a_body_that_drips_does_not_outlast_the_deadline() -> Tested {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let token = Credential::AccessToken(SecretString::from("t"));
    let mut settings = Settings::new(api(listener.local_addr()?)?, token);
    settings.attempt_deadline = Duration::from_millis(300);
    settings.connect_timeout = Duration::from_millis(300);
    let client = Client::new(settings)?;
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await?;
        hear(&mut stream).await?;
        stream.write_all(b"HTTP/1.1 429 Too Many\r\nretry-after: 7\r\ncontent-length: 9\r\n\r\n{").await?;
        // Until the client gives up.
        hear(&mut stream).await.map(drop)
    });
    let answer = unblock(&client).await;
    let failure = answer.outcome.err().ok_or("the attempt succeeded")?;
    let hold = pingone_unblock::job::RetryHint::Hold(Some(Duration::from_secs(7)));
    assert_eq!((failure.hint, answer.http_status), (hold, Some(429)), "the status was heard");
    served.abort();
    Ok(())
}
