//! Compiles the contract with protox (no protoc needed), keeps its descriptors for reflection, and makes a table of what each RPC
//! asks of its caller. An RPC that does not say so is no contract: then nothing is built.

use std::{env, error::Error, fmt::Write as _, fs, path::PathBuf};

use protox::prost_reflect::{DescriptorPool, MethodDescriptor};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=migrations");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true);
    let services = ["device_service", "job_service", "batch_service", "environment_service", "audit_service"];
    compiler.open_files(services.map(|service| format!("pingone/device/v1/{service}.proto")))?;
    fs::write(out.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;
    fs::write(out.join("scopes.rs"), scopes(&compiler.descriptor_pool())?)?;
    tonic_prost_build::configure().bytes(".").compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}

/// `[("package.Service/Method", Scope::…), …]`
fn scopes(contract: &DescriptorPool) -> Result<String, Box<dyn Error>> {
    let option = contract.get_extension_by_name("pingone.device.v1.scope").ok_or("no RPC says its scope")?;
    let mut table = String::from("[");
    for method in contract.services().flat_map(|service| service.methods().collect::<Vec<MethodDescriptor>>())
    {
        let name = format!("{}/{}", method.parent_service().full_name(), method.name());
        let number = method.options().get_extension(&option).as_enum_number().unwrap_or_default();
        if number == 0 {
            return Err(format!("{name} says no scope: give it `option (scope)`, see access.proto").into());
        }
        writeln!(table, "({name:?}, {number}),")?;
    }
    table.push(']');
    Ok(table)
}
