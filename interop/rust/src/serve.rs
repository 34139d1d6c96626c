//! What the listener serves beside ping and identify: the other half of each check.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::{Stream, StreamProtocol};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::Failure;

pub const ECHO: &str = "/echo/1.0.0";
pub const PERF: &str = "/perf/1.0.0";
pub const SLOW_READ: &str = "/interop/slow-read/1.0.0";
pub const HALF_CLOSE: &str = "/interop/half-close/1.0.0";
pub const RESET: &str = "/interop/reset/1.0.0";
pub const SEEN: &str = "/interop/seen/1.0.0";
pub const SERVED: [&str; 6] = [ECHO, PERF, SLOW_READ, HALF_CLOSE, RESET, SEEN];

/// What only a later question can tell the dialer: whether its end or reset has come through.
type Notes = Arc<Mutex<String>>;

pub async fn serve(mut inbound: mpsc::UnboundedReceiver<(StreamProtocol, Stream)>) {
    let notes = Notes::default();
    while let Some((protocol, stream)) = inbound.recv().await {
        let notes = notes.clone();
        tokio::spawn(async move {
            if let Err(error) = handle(protocol.as_ref(), stream, notes).await {
                eprintln!("{protocol}: {error}"); // the stream is dropped, which resets it
            }
        });
    }
}

async fn handle(protocol: &str, mut stream: Stream, notes: Notes) -> Result<(), Failure> {
    match protocol {
        ECHO => {
            let (reader, mut writer) = stream.split();
            futures::io::copy(reader, &mut writer).await?;
            writer.close().await?;
            return Ok(());
        }
        PERF => {
            let mut wanted = [0; 8];
            stream.read_exact(&mut wanted).await?;
            futures::io::copy(&mut stream, &mut futures::io::sink()).await?;
            write_zeros(&mut stream, u64::from_be_bytes(wanted)).await?;
        }
        SLOW_READ => {
            let mut pause = [0; 4];
            stream.read_exact(&mut pause).await?;
            let digest = read_slowly(&mut stream, Duration::from_millis(u32::from_be_bytes(pause).into())).await?;
            stream.write_all(&digest).await?;
        }
        HALF_CLOSE => {
            stream.close().await?;
            let digest = read_slowly(&mut stream, Duration::ZERO).await?;
            note(&notes, &format!("end {}", hex(&digest)));
            return Ok(());
        }
        RESET => return serve_reset(stream, &notes).await,
        _ => {
            let text = notes.lock().expect("no holder panics").clone();
            stream.write_all(text.as_bytes()).await?;
        }
    }
    Ok(stream.close().await?)
}

fn note(notes: &Notes, line: &str) {
    let mut text = notes.lock().expect("no holder panics");
    text.push_str(line);
    text.push('\n');
}

/// Answers with a byte; then resets, or waits to be reset.
async fn serve_reset(mut stream: Stream, notes: &Notes) -> Result<(), Failure> {
    let mut who = [0];
    stream.read_exact(&mut who).await?;
    stream.write_all(&who).await?;
    stream.flush().await?;
    if who == *b"l" {
        sleep(Duration::from_millis(100)).await; // the byte arrives first
    } else {
        note(notes, if was_reset(&mut stream).await { "reset" } else { "no reset, but an end" });
    }
    Ok(()) // the stream is dropped, which resets it
}

/// Reads to the end. rust-yamux shows a reset as an end of reading; but then writing fails too.
pub async fn was_reset(stream: &mut Stream) -> bool {
    futures::io::copy(&mut *stream, &mut futures::io::sink()).await.is_err()
        || stream.write_all(&[0]).await.is_err()
        || stream.flush().await.is_err()
}

pub async fn write_zeros(stream: &mut Stream, total: u64) -> std::io::Result<()> {
    let zeros = futures::io::AsyncReadExt::take(futures::io::repeat(0), total);
    futures::io::copy(zeros, stream).await.map(drop)
}

/// First does nothing for a while, then reads to the end, at most 256 KiB each 10 ms; the SHA-256 of it all.
pub async fn read_slowly(stream: &mut (impl futures::AsyncRead + Unpin), pause: Duration) -> std::io::Result<Vec<u8>> {
    sleep(pause).await;
    let mut digest = Sha256::new();
    let mut block = vec![0; 1 << 16];
    let mut since_rest = 0;
    loop {
        let count = stream.read(&mut block).await?;
        if count == 0 {
            return Ok(digest.finalize().to_vec());
        }
        digest.update(&block[..count]);
        since_rest += count;
        if since_rest >= 1 << 18 {
            since_rest = 0;
            sleep(Duration::from_millis(10)).await;
        }
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
