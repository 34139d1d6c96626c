//! What the dialer checks beyond ping.

use std::time::{Duration, Instant};

use futures::future::{join_all, try_join_all};
use futures::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::{Multiaddr, PeerId, Stream, StreamProtocol, identify, ping};
use rand::RngCore;
use sha2::{Digest, Sha256};
use tokio::time::sleep;

use crate::node::Node;
use crate::serve::{
    ECHO, HALF_CLOSE, PERF, RESET, SEEN, SLOW_READ, hex, read_slowly, was_reset, write_zeros,
};
use crate::{Failure, ensure, pubsub};

const MIB: usize = 1 << 20;
const BLOCK: usize = 1 << 16;
const NOTED_TIME: Duration = Duration::from_secs(5); // for an end or a reset to come through
const SOMEONE: &str = "12D3KooWSahP5pFRCEfaziPEba7urXGeif6T1y8jmodzdFUvzBHj"; // a peer that nobody here is

pub struct Dialer {
    pub node: Node,
    pub listener: PeerId,
    pub addr: Multiaddr,
}

impl Dialer {
    pub async fn check(&mut self, name: &str) -> Result<(), Failure> {
        match name {
            "identify" => judge(self.node.identified(self.listener).await),
            "echo" => self.echo().await,
            "streams" => self.streams().await,
            "half-close" => self.half_close().await,
            "reset" => self.reset().await,
            "unsupported" => self.unsupported().await,
            "wrong-peer" => self.wrong_peer().await,
            "slow-listener" => self.slow_listener().await,
            "slow-dialer" => self.echo_of(10 * MIB, Duration::from_secs(1)).await,
            "pubsub" => pubsub::check(&mut self.node).await,
            _ => Err("no such check".into()),
        }
    }

    async fn open(&self, protocol: &'static str) -> Result<Stream, Failure> {
        self.node.open(self.listener, StreamProtocol::new(protocol)).await
    }

    async fn echo(&self) -> Result<(), Failure> {
        self.echo_of(MIB, Duration::ZERO).await
    }

    async fn echo_of(&self, total: usize, pause: Duration) -> Result<(), Failure> {
        let (mut reader, writer) = self.open(ECHO).await?.split();
        let (sent, got) = futures::try_join!(write_random(writer, total), read_slowly(&mut reader, pause))?;
        ensure(sent == got, "other bytes came back than were sent")
    }

    async fn slow_listener(&self) -> Result<(), Failure> {
        let (mut reader, mut writer) = self.open(SLOW_READ).await?.split();
        writer.write_all(&1000u32.to_be_bytes()).await?;
        let sent = write_random(writer, 10 * MIB).await?;
        let mut answer = Vec::new();
        reader.read_to_end(&mut answer).await?;
        ensure(answer == sent, "other bytes arrived than were sent")
    }

    /// All streams stay open until each has had its echo.
    async fn streams(&self) -> Result<(), Failure> {
        let one = async |number: usize| -> Result<Stream, Failure> {
            let mut stream = self.open(ECHO).await?;
            let data = format!("stream {number}").into_bytes();
            stream.write_all(&data).await?;
            stream.flush().await?;
            let mut answer = vec![0; data.len()];
            stream.read_exact(&mut answer).await?;
            ensure(answer == data, &format!("{answer:?} came back on stream {number}"))?;
            Ok(stream)
        };
        let mut held = try_join_all((0..200).map(one)).await?;
        join_all(held.iter_mut().map(|stream| stream.close())).await.into_iter().collect::<Result<(), _>>()?;
        Ok(())
    }

    /// Ends our direction first, on perf; then has the listener end its own first.
    async fn half_close(&self) -> Result<(), Failure> {
        let mut stream = self.open(PERF).await?;
        stream.write_all(&(MIB as u64).to_be_bytes()).await?;
        write_zeros(&mut stream, MIB as u64).await?;
        stream.close().await?;
        let count = futures::io::copy(&mut stream, &mut futures::io::sink()).await?;
        ensure(count == MIB as u64, &format!("{count} bytes came behind our end"))?;

        let (mut reader, writer) = self.open(HALF_CLOSE).await?.split();
        ensure(reader.read(&mut [0]).await? == 0, "no end of the listener's direction")?;
        let sent = write_random(writer, BLOCK).await?;
        self.noted(&format!("end {}\n", hex(&sent))).await
    }

    /// Waits until the listener has seen this.
    async fn noted(&self, line: &str) -> Result<(), Failure> {
        let end = Instant::now() + NOTED_TIME;
        loop {
            let mut stream = self.open(SEEN).await?;
            stream.close().await?;
            let mut text = String::new();
            stream.read_to_string(&mut text).await?;
            if text.contains(line) {
                return Ok(());
            }
            ensure(Instant::now() < end, &format!("the listener did not see {line:?}, but {text:?}"))?;
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Resets a stream in the middle of data, then has the listener reset one; the connection goes on.
    async fn reset(&self) -> Result<(), Failure> {
        let mut stream = self.open_for_reset(b"d").await?;
        stream.write_all(&[0; 10_000]).await?;
        drop(stream);
        self.noted("reset\n").await?;
        let mut stream = self.open_for_reset(b"l").await?;
        ensure(was_reset(&mut stream).await, "the listener reset the stream, which shows as its end")?;
        self.echo().await
    }

    async fn open_for_reset(&self, who: &[u8; 1]) -> Result<Stream, Failure> {
        let mut stream = self.open(RESET).await?;
        stream.write_all(who).await?;
        stream.flush().await?;
        stream.read_exact(&mut [0]).await?;
        Ok(stream)
    }

    async fn unsupported(&self) -> Result<(), Failure> {
        match self.open("/no/such/protocol").await {
            Ok(_) => Err("the stream was opened".into()),
            Err(error) => {
                ensure(error.to_string().contains("no protocols could be agreed upon"), &error.to_string())?;
                self.echo().await
            }
        }
    }

    async fn wrong_peer(&mut self) -> Result<(), Failure> {
        let error = self.node.refused(SOMEONE.parse()?, self.addr.clone()).await?;
        ensure(error.contains("peer ID"), &error)?;
        self.echo().await
    }
}

fn judge(seen: identify::Info) -> Result<(), Failure> {
    ensure(!seen.agent_version.is_empty(), "no agent version")?;
    for protocol in [ping::PROTOCOL_NAME.as_ref(), ECHO] {
        let known = seen.protocols.iter().any(|one| one.as_ref() == protocol);
        ensure(known, &format!("{protocol} is not among {:?}", seen.protocols))?;
    }
    let observed = seen.observed_addr.to_string();
    let parts: Vec<_> = observed.split('/').collect();
    let plausible = parts.len() >= 5 && parts[1] == "ip4" && ["tcp", "udp"].contains(&parts[3]) && parts[4] != "0";
    ensure(plausible, &format!("observed at {observed}"))
}

/// The SHA-256 of what was written; the direction is ended behind it.
async fn write_random(mut writer: impl AsyncWrite + Unpin, total: usize) -> std::io::Result<Vec<u8>> {
    let mut digest = Sha256::new();
    let mut block = vec![0; BLOCK];
    for _ in 0..total / BLOCK {
        rand::thread_rng().fill_bytes(&mut block);
        digest.update(&block);
        writer.write_all(&block).await?;
    }
    writer.close().await?;
    Ok(digest.finalize().to_vec())
}
