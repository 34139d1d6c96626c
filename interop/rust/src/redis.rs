//! As much of a Redis client as handing over one address takes.

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::{Failure, env};

pub fn key() -> String {
    format!("{}_listener_multiaddr", env("TEST_KEY"))
}

/// Sends one command, and returns the last line of the answer: all that RPUSH and BLPOP need.
pub async fn send(command: &str) -> Result<String, Failure> {
    let mut conn = BufReader::new(TcpStream::connect(env("REDIS_ADDR")).await?);
    conn.write_all(format!("{command}\r\n").as_bytes()).await?;
    let mut line = String::new();
    let mut more = 1;
    while more > 0 {
        line.clear();
        conn.read_line(&mut line).await?;
        match line.trim_end() {
            refusal if refusal.is_empty() || refusal.starts_with('-') || refusal.ends_with("-1") => {
                return Err(format!("redis: {refusal}").into());
            }
            "*2" => more = 4, // two strings, each behind its length
            _ => more -= 1,
        }
    }
    Ok(line.trim_end().into())
}
