//! The rust-libp2p peer that py-libp2p is tested against. ../README.md says what it is told and what it answers.

mod checks;
mod kad;
mod node;
mod pubsub;
mod pubsubnode;
mod redis;
mod relay;
mod serve;
mod streams;
mod transport;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use libp2p::multiaddr::{Multiaddr, Protocol};
use libp2p::swarm::dial_opts::DialOpts;
use tokio::sync::mpsc;
use tokio::time::timeout;

use checks::Dialer;
use node::{Event, Node};

pub type Failure = Box<dyn std::error::Error + Send + Sync>;

pub const PATIENCE: Duration = Duration::from_secs(60); // for the other side to come up, and for connecting
const CHECK_TIME: Duration = Duration::from_secs(30);

pub fn env(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

pub fn ensure(holds: bool, what: &str) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(what.into()) }
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let ended = match arguments.split_first() {
        Some((part, rest)) if part == "kad" => kad::serve(rest).await,
        Some((part, [options])) if part == "pubsub" => pubsubnode::run(options).await,
        Some((part, rest)) if part == "relay" => relay::play(rest).await,
        Some((part, _)) => Err(format!("what is {part:?}?").into()),
        None if env("IS_DIALER") == "true" => dial().await,
        None => listen().await,
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Serves until it is killed.
async fn listen() -> Result<(), Failure> {
    let (inbound, streams) = mpsc::unbounded_channel();
    let wanted = transport::listen_addr()?;
    let all = wanted.iter().next() == Some(Protocol::Ip4([0, 0, 0, 0].into()));
    let mut node = Node::start(&serve::SERVED, inbound, Some(wanted))?;
    let addr = loop {
        if let Event::Listening(addr) = timeout(PATIENCE, node.next()).await? {
            let local = matches!(addr.iter().next(), Some(Protocol::Ip4(ip)) if ip.is_loopback());
            if !all || !local {
                break addr;
            }
        }
    };
    redis::send(&format!("RPUSH {} {addr}/p2p/{}", redis::key(), node.id)).await?;
    tokio::join!(serve::serve(streams), async {
        loop {
            let event = node.next().await;
            pubsub::answer(&node, event);
        }
    });
    Ok(())
}

async fn dial() -> Result<(), Failure> {
    let mut addr: Multiaddr = redis::send(&format!("BLPOP {} {}", redis::key(), PATIENCE.as_secs())).await?.parse()?;
    let Some(Protocol::P2p(listener)) = addr.pop() else {
        return Err("the listener's address lacks its peer id".into());
    };
    let mut node = Node::start(&[], mpsc::unbounded_channel().0, None)?;
    let start = Instant::now();
    node.dial(DialOpts::peer_id(listener).addresses(vec![addr.clone()]).build());
    let rtt = timeout(PATIENCE, first_ping(&mut node)).await??;
    let milliseconds = |time: Duration| time.as_secs_f64() * 1000.0;
    println!("latency:\n  handshake_plus_one_rtt: {:.3}", milliseconds(start.elapsed()));
    println!("  ping_rtt: {:.3}\n  unit: ms", milliseconds(rtt));
    run_checks(&mut Dialer { node, listener, addr }).await
}

async fn first_ping(node: &mut Node) -> Result<Duration, Failure> {
    loop {
        match node.next().await {
            Event::Pinged(rtt) => return Ok(rtt),
            Event::PingFailed(error) | Event::Refused(_, error) | Event::Failed(error) => return Err(error.into()),
            _ => {}
        }
    }
}

/// Runs those that CHECKS names, one after the other, and prints how each went.
async fn run_checks(dialer: &mut Dialer) -> Result<(), Failure> {
    let names = env("CHECKS");
    let names: Vec<_> = names.split(',').filter(|name| !name.is_empty()).collect();
    if !names.is_empty() {
        println!("checks:");
    }
    let mut failed = 0;
    for name in names {
        let verdict = match timeout(CHECK_TIME, dialer.check(name)).await.unwrap_or_else(|late| Err(late.into())) {
            Ok(()) => "ok".to_string(),
            Err(error) => {
                failed += 1;
                format!("fail: {error}")
            }
        };
        println!("  {name}: {}", serde_json::to_string(&verdict)?); // which is YAML too
    }
    ensure(failed == 0, &format!("{failed} checks failed"))
}
