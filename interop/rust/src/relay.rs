//! A part of a triangle: a relay, who listens behind it, who dials; and who asks what AutoNAT finds. ../README.md says
//! what each is told and prints.

use std::time::{Duration, Instant};

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::core::Transport as _;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::OrTransport;
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, Swarm, autonat, dcutr, identify, noise, ping, relay, swarm, yamux,
};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::streams::{self, Open};
use crate::{Failure, PATIENCE, serve, transport};

const MESSAGE: &[u8] = b"through the relay";

#[derive(NetworkBehaviour)]
struct Behaviour {
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    streams: streams::Behaviour,
    client: relay::client::Behaviour,
    relay: Toggle<relay::Behaviour>,
    dcutr: Toggle<dcutr::Behaviour>,
    v1: Toggle<autonat::v1::Behaviour>,
    v2: Toggle<autonat::v2::client::Behaviour>,
    v2_server: Toggle<autonat::v2::server::Behaviour>,
}

struct Part {
    swarm: Swarm<Behaviour>,
    wanted: mpsc::UnboundedSender<Open>,
    relayed: Option<Instant>, // since when there is a relayed connection to a peer
}

/// `arguments`: the part, the address that it is about, unless it is the relay, and where to listen.
pub async fn play(arguments: &[String]) -> Result<(), Failure> {
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let ended = async {
        let mut lines = BufReader::new(tokio::io::stdin()).lines();
        while let Ok(Some(_)) = lines.next_line().await {}
    };
    let played = async {
        match arguments.as_slice() {
            ["server", listen] => Part::start("server", listen).await?.serve().await,
            ["listen", relay, listen] => Part::start("listen", listen).await?.reserve(relay.parse()?).await,
            ["dial", addr, listen] => Part::start("dial", listen).await?.dial(addr.parse()?).await,
            [part @ ("check-v1" | "check-v2"), server, listen] => {
                Part::start(part, listen).await?.check(server.parse()?).await
            }
            _ => Err("server LISTEN, or listen, dial, check-v1 or check-v2 ADDR LISTEN".into()),
        }
    };
    tokio::select! {
        result = played => result,
        () = ended => Ok(()),
    }
}

impl Part {
    async fn start(part: &str, listen: &str) -> Result<Self, Failure> {
        let key = Keypair::generate_ed25519();
        let id = key.public().to_peer_id();
        let (inbound, streams) = mpsc::unbounded_channel();
        let (wanted, wanted_from) = mpsc::unbounded_channel();
        let (circuits, client) = relay::client::new(id);
        tokio::spawn(serve::serve(streams));
        let checks = part.starts_with("check");
        let served = serve::SERVED.iter().map(|protocol| StreamProtocol::new(protocol)).collect();
        let behaviour = Behaviour {
            identify: identify::Behaviour::new(identify::Config::new("ipfs/0.1.0".into(), key.public())),
            ping: ping::Behaviour::default(),
            streams: streams::Behaviour::new(served, inbound, wanted_from),
            client,
            relay: (part == "server").then(|| relay::Behaviour::new(id, relay::Config::default())).into(),
            dcutr: (part == "listen" || part == "dial").then(|| dcutr::Behaviour::new(id)).into(),
            v1: (part == "server" || part == "check-v1").then(|| autonat_v1(id, checks)).into(),
            v2: (part == "check-v2").then(autonat::v2::client::Behaviour::default).into(),
            v2_server: (part == "server").then(autonat::v2::server::Behaviour::default).into(),
        };
        let config = swarm::Config::with_tokio_executor().with_idle_connection_timeout(Duration::from_secs(600));
        let circuits = circuits
            .upgrade(Version::V1Lazy)
            .authenticate(noise::Config::new(&key)?)
            .multiplex(yamux::Config::default());
        let transport = OrTransport::new(circuits, transport::build(&key)?)
            .map(|either, _| match either {
                futures::future::Either::Left((peer, muxer)) => (peer, StreamMuxerBox::new(muxer)),
                futures::future::Either::Right(connection) => connection,
            })
            .boxed();
        let mut swarm = Swarm::new(transport, behaviour, id, config);
        swarm.listen_on(listen.parse()?)?;
        let mut made = Self { swarm, wanted, relayed: None };
        let addr = timeout(PATIENCE, made.listening(false)).await?;
        if part == "server" {
            made.swarm.add_external_address(addr.clone()); // a reservation names what is known to be reachable
            println!("{addr}/p2p/{id}");
        }
        Ok(made)
    }

    async fn listening(&mut self, relayed: bool) -> Multiaddr {
        loop {
            match self.next().await {
                SwarmEvent::NewListenAddr { address, .. } if is_relayed(&address) == relayed => return address,
                _ => {}
            }
        }
    }

    async fn serve(mut self) -> Result<(), Failure> {
        loop {
            self.next().await;
        }
    }

    async fn reserve(mut self, relay: Multiaddr) -> Result<(), Failure> {
        self.identified(relay.clone()).await?;
        self.swarm.listen_on(relay.with(Protocol::P2pCircuit))?;
        let addr = timeout(PATIENCE, self.listening(true)).await?;
        println!("{addr}");
        self.serve().await
    }

    async fn dial(mut self, addr: Multiaddr) -> Result<(), Failure> {
        let (relay, target) = relay_and_target(&addr)?;
        self.identified(relay).await?;
        self.swarm.dial(addr)?;
        timeout(PATIENCE, async {
            while self.relayed.is_none() {
                if let SwarmEvent::OutgoingConnectionError { error, .. } = self.next().await {
                    return Err(Failure::from(error.to_string()));
                }
            }
            Ok(())
        })
        .await??;
        let (answer, opened) = oneshot::channel();
        self.wanted.send(Open { peer: target, protocol: StreamProtocol::new("/echo/1.0.0"), answer })?;
        tokio::spawn(async move {
            let asked = async {
                let mut stream = opened.await??;
                stream.write_all(MESSAGE).await?;
                stream.close().await?;
                let mut answer = String::new();
                stream.read_to_string(&mut answer).await?;
                Ok::<_, Failure>(answer)
            };
            match asked.await {
                Ok(answer) => println!("{answer}"),
                Err(error) => println!("error {error}"),
            }
        });
        self.serve().await
    }

    async fn check(mut self, server: Multiaddr) -> Result<(), Failure> {
        self.swarm.dial(server)?;
        loop {
            match self.next().await {
                SwarmEvent::Behaviour(BehaviourEvent::V2(event)) => {
                    let found = if event.result.is_ok() { "reachable" } else { "unreachable" };
                    println!("{found} {}", event.tested_addr);
                }
                SwarmEvent::Behaviour(BehaviourEvent::V1(autonat::v1::Event::StatusChanged { new, .. })) => match new {
                    autonat::v1::NatStatus::Public(addr) => println!("reachable {addr}"),
                    autonat::v1::NatStatus::Private => println!("unreachable"),
                    autonat::v1::NatStatus::Unknown => {}
                },
                _ => {}
            }
        }
    }

    /// Connects to a relay and has it say where it sees us: a punch needs that.
    async fn identified(&mut self, relay: Multiaddr) -> Result<(), Failure> {
        let Some(Protocol::P2p(id)) = relay.iter().last() else {
            return Err("the relay's address lacks its peer id".into());
        };
        self.swarm.dial(DialOpts::peer_id(id).addresses(vec![relay]).build())?;
        let (mut told, mut seen) = (false, false);
        timeout(PATIENCE, async {
            while !(told && seen) {
                match self.next().await {
                    SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Received { .. })) => seen = true,
                    SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Sent { .. })) => told = true,
                    SwarmEvent::OutgoingConnectionError { error, .. } => return Err(Failure::from(error.to_string())),
                    _ => {}
                }
            }
            Ok(())
        })
        .await?
    }

    /// The next event; what it means for the way to the peer is printed.
    async fn next(&mut self) -> SwarmEvent<BehaviourEvent> {
        let event = self.swarm.select_next_some().await;
        match &event {
            SwarmEvent::ConnectionEstablished { endpoint, .. } if endpoint.is_relayed() => {
                self.relayed.get_or_insert_with(Instant::now);
            }
            SwarmEvent::ConnectionEstablished { endpoint, .. } => {
                if let Some(since) = self.relayed {
                    let milliseconds = since.elapsed().as_secs_f64() * 1000.0;
                    println!("direct {} {milliseconds:.1}", endpoint.get_remote_address());
                }
            }
            SwarmEvent::Behaviour(BehaviourEvent::Dcutr(dcutr::Event { result: Err(error), .. })) => {
                println!("relayed {error}");
            }
            _ => {}
        }
        event
    }
}

fn is_relayed(addr: &Multiaddr) -> bool {
    addr.iter().any(|part| part == Protocol::P2pCircuit)
}

fn relay_and_target(addr: &Multiaddr) -> Result<(Multiaddr, PeerId), Failure> {
    let relay = addr.iter().take_while(|part| *part != Protocol::P2pCircuit).collect();
    match addr.iter().last() {
        Some(Protocol::P2p(target)) if is_relayed(addr) => Ok((relay, target)),
        _ => Err(format!("{addr} leads through no relay").into()),
    }
}

/// Asks soon and often, where it asks: there is one server.
fn autonat_v1(id: PeerId, asks: bool) -> autonat::v1::Behaviour {
    let soon = Duration::from_secs(1);
    let never = Duration::from_secs(1_000_000);
    autonat::v1::Behaviour::new(
        id,
        autonat::v1::Config {
            boot_delay: if asks { soon } else { never },
            retry_interval: if asks { soon } else { never },
            throttle_server_period: Duration::ZERO,
            confidence_max: 1,
            ..Default::default()
        },
    )
}
