//! Stands in for `protoc` while etcd-client is built, so that a machine with only Rust can build the engine.
//!
//! It takes the flags that prost-build passes (`-I DIR`, `-o FILE`, then the protos) and refuses any other.

use std::process::ExitCode;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tools/protoc: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let (mut includes, mut protos, mut output) = (Vec::new(), Vec::new(), None);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--version" => {
                println!("libprotoc 25.0 (protox)");
                return Ok(());
            }
            "--include_imports" | "--include_source_info" | "--experimental_allow_proto3_optional" => {}
            "-I" => includes.push(args.next().ok_or("-I needs a folder")?),
            "-o" => output = Some(args.next().ok_or("-o needs a file")?),
            flag if flag.starts_with('-') => return Err(format!("no such flag here: {flag}").into()),
            proto => protos.push(proto.to_owned()),
        }
    }
    let mut compiler = protox::Compiler::new(includes)?;
    compiler.include_imports(true).include_source_info(true).open_files(protos)?;
    std::fs::write(output.ok_or("-o FILE is missing")?, compiler.encode_file_descriptor_set())?;
    Ok(())
}
