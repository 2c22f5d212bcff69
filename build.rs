//! Generates the Rust of the two protos. `tools/protoc` stands in for protoc (see `.cargo/config.toml`).

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let protos = ["proto/event.proto", "proto/gateway.proto"];
    tonic_prost_build::configure().build_transport(false).compile_protos(&protos, &["proto"])?;
    Ok(())
}
