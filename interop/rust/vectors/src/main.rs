//! Reads RPCs, as we and go-libp2p-pubsub encode them, by rust-libp2p's own code, and writes them by it.
//! tests/vectors/README.md has the command.

use std::collections::BTreeMap;

use prost::Message as _;

#[allow(dead_code, clippy::all)]
mod proto {
    include!(env!("GOSSIPSUB_PB"));
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let given: serde_json::Value = serde_json::from_reader(std::io::stdin())?;
    let mut written = BTreeMap::new();
    for (name, text) in given["rpcs"].as_object().ok_or("no rpcs")? {
        let text = text.as_str().ok_or("no text")?;
        let bytes: Vec<u8> = (0..text.len() / 2)
            .map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16))
            .collect::<Result<_, _>>()?;
        let rpc = proto::Rpc::decode(bytes.as_slice())?;
        let hex: String = rpc.encode_to_vec().iter().map(|byte| format!("{byte:02x}")).collect();
        written.insert(name.clone(), hex);
    }
    println!("{}", serde_json::to_string_pretty(&written)?);
    Ok(())
}
