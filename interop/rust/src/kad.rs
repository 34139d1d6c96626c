//! A server of the DHT that does what it is told on stdin, one command a line, and ends with it. ../README.md has the
//! commands. It is a rendezvous point and a rendezvous client too, and looks around by mDNS where it was told so.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt;
use libp2p::identity::Keypair;
use libp2p::kad::store::MemoryStore;
use libp2p::kad::{self, GetProvidersOk, GetRecordOk, Quorum, QueryId, QueryResult, Record, RecordKey};
use libp2p::multiaddr::Protocol;
use libp2p::rendezvous::{self, Namespace};
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, StreamProtocol, Swarm, identify, mdns, swarm};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::timeout;

use crate::{Failure, transport};

const PATIENCE: Duration = Duration::from_secs(20); // for what one command does

#[derive(NetworkBehaviour)]
struct Behaviour {
    identify: identify::Behaviour,
    kad: kad::Behaviour<MemoryStore>,
    mdns: Toggle<mdns::tokio::Behaviour>,
    point: rendezvous::server::Behaviour,
    rendezvous: rendezvous::client::Behaviour,
}

struct Node {
    swarm: Swarm<Behaviour>,
    protocol: StreamProtocol,
    found: BTreeSet<PeerId>, // by mDNS
}

/// `arguments`: where to listen, the protocol of the DHT, and `mdns` where that is wanted.
pub async fn serve(arguments: &[String]) -> Result<(), Failure> {
    let [addr, protocol, more @ ..] = arguments else {
        return Err("where to listen, and which protocol?".into());
    };
    let mut node = Node::start(addr.parse()?, protocol, more.contains(&"mdns".to_string()))?;
    let addr = timeout(PATIENCE, node.listening()).await?;
    println!("{addr}/p2p/{}", node.swarm.local_peer_id());
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    loop {
        tokio::select! {
            line = lines.next_line() => {
                let Some(line) = line? else { return Ok(()) };
                let words: Vec<_> = line.split_whitespace().collect();
                match timeout(PATIENCE, node.obey(&words)).await.unwrap_or_else(|late| Err(late.into())) {
                    Ok(answer) => answer.iter().for_each(|line| println!("{line}")),
                    Err(error) => println!("error {}", error.to_string().replace('\n', "; ")),
                }
                println!("done");
            }
            _ = node.next() => {}
        }
    }
}

impl Node {
    fn start(addr: Multiaddr, protocol: &str, looks_around: bool) -> Result<Self, Failure> {
        let key = Keypair::generate_ed25519();
        let id = key.public().to_peer_id();
        let protocol = StreamProtocol::try_from_owned(protocol.to_string())?;
        let around = looks_around.then(|| mdns::tokio::Behaviour::new(mdns::Config::default(), id)).transpose()?;
        let mut behaviour = Behaviour {
            identify: identify::Behaviour::new(identify::Config::new("ipfs/0.1.0".into(), key.public())),
            kad: kad::Behaviour::with_config(id, MemoryStore::new(id), kad::Config::new(protocol.clone())),
            mdns: around.into(),
            point: rendezvous::server::Behaviour::new(rendezvous::server::Config::default()),
            rendezvous: rendezvous::client::Behaviour::new(key.clone()),
        };
        behaviour.kad.set_mode(Some(kad::Mode::Server));
        let config = swarm::Config::with_tokio_executor().with_idle_connection_timeout(Duration::from_secs(600));
        let mut swarm = Swarm::new(transport::build(&key)?, behaviour, id, config);
        swarm.listen_on(addr)?;
        Ok(Self { swarm, protocol, found: BTreeSet::new() })
    }

    async fn listening(&mut self) -> Multiaddr {
        loop {
            if let SwarmEvent::NewListenAddr { address, .. } = self.next().await {
                self.swarm.add_external_address(address.clone()); // what rendezvous registers
                return address;
            }
        }
    }

    /// The next event; servers that identify has told of are in the table then.
    async fn next(&mut self) -> SwarmEvent<BehaviourEvent> {
        let event = self.swarm.select_next_some().await;
        match &event {
            SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. }))
                if info.protocols.contains(&self.protocol) =>
            {
                for addr in &info.listen_addrs {
                    self.swarm.behaviour_mut().kad.add_address(peer_id, addr.clone());
                }
            }
            SwarmEvent::Behaviour(BehaviourEvent::Mdns(mdns::Event::Discovered(peers))) => {
                self.found.extend(peers.iter().map(|(peer, _)| *peer));
            }
            _ => {}
        }
        event
    }

    async fn obey(&mut self, words: &[&str]) -> Result<Vec<String>, Failure> {
        match words {
            ["connect", addr] => self.connect(addr.parse()?).await,
            ["provide", _, key] => {
                let query = self.kad().start_providing(RecordKey::new(&bytes(key)?))?;
                self.result(query).await
            }
            ["find-providers", _, key] => {
                let query = self.kad().get_providers(RecordKey::new(&bytes(key)?));
                self.result(query).await
            }
            ["put", key, value] => {
                let query = self.kad().put_record(Record::new(bytes(key)?, bytes(value)?), Quorum::One)?;
                self.result(query).await
            }
            ["get", key] => {
                let query = self.kad().get_record(RecordKey::new(&bytes(key)?));
                self.result(query).await
            }
            ["find-peer", peer] => self.find_peer(peer.parse()?).await,
            ["register", namespace, point] => self.register(Namespace::new(namespace.to_string())?, point.parse()?).await,
            ["discover", namespace, point] => self.discover(Namespace::new(namespace.to_string())?, point.parse()?).await,
            ["found", peer] => self.wait_for(peer.parse()?).await,
            _ => Err(format!("what is {words:?}?").into()),
        }
    }

    fn kad(&mut self) -> &mut kad::Behaviour<MemoryStore> {
        &mut self.swarm.behaviour_mut().kad
    }

    async fn connect(&mut self, addr: Multiaddr) -> Result<Vec<String>, Failure> {
        let Some(Protocol::P2p(peer)) = addr.iter().last() else {
            return Err("the address lacks its peer id".into());
        };
        self.swarm.dial(addr)?;
        while self.kad().kbucket(peer).is_none_or(|bucket| bucket.is_empty()) {
            if let SwarmEvent::OutgoingConnectionError { error, .. } = self.next().await {
                return Err(error.into());
            }
        }
        let query = self.kad().bootstrap()?;
        self.result(query).await
    }

    /// What a query finds until its end, a line each.
    async fn result(&mut self, query: QueryId) -> Result<Vec<String>, Failure> {
        let mut lines = BTreeSet::new(); // several nodes may tell of the same
        loop {
            let SwarmEvent::Behaviour(BehaviourEvent::Kad(kad::Event::OutboundQueryProgressed { id, result, step, .. })) =
                self.next().await
            else {
                continue;
            };
            if id != query {
                continue;
            }
            match result {
                QueryResult::GetProviders(Ok(GetProvidersOk::FoundProviders { providers, .. })) => {
                    lines.extend(providers.iter().map(ToString::to_string));
                }
                QueryResult::GetRecord(Ok(GetRecordOk::FoundRecord(found))) => {
                    lines.insert(hex(&found.record.value));
                }
                QueryResult::GetRecord(Err(error)) if lines.is_empty() => return Err(error.into()),
                QueryResult::PutRecord(done) => return done.map(|_| Vec::new()).map_err(Into::into),
                QueryResult::StartProviding(done) => return done.map(|_| Vec::new()).map_err(Into::into),
                _ => {}
            }
            if step.last {
                return Ok(lines.into_iter().collect());
            }
        }
    }

    async fn find_peer(&mut self, sought: PeerId) -> Result<Vec<String>, Failure> {
        let query = self.kad().get_closest_peers(sought);
        loop {
            if let SwarmEvent::Behaviour(BehaviourEvent::Kad(kad::Event::OutboundQueryProgressed {
                id,
                result: QueryResult::GetClosestPeers(closest),
                ..
            })) = self.next().await
                && id == query
            {
                let found = closest?.peers.into_iter().find(|info| info.peer_id == sought).ok_or("nobody knows it")?;
                return Ok(found.addrs.iter().map(ToString::to_string).collect());
            }
        }
    }

    async fn register(&mut self, namespace: Namespace, point: PeerId) -> Result<Vec<String>, Failure> {
        self.swarm.behaviour_mut().rendezvous.register(namespace, point, None)?;
        loop {
            match self.next().await {
                SwarmEvent::Behaviour(BehaviourEvent::Rendezvous(rendezvous::client::Event::Registered { .. })) => {
                    return Ok(Vec::new());
                }
                SwarmEvent::Behaviour(BehaviourEvent::Rendezvous(rendezvous::client::Event::RegisterFailed {
                    error,
                    ..
                })) => return Err(format!("{error:?}").into()),
                _ => {}
            }
        }
    }

    async fn discover(&mut self, namespace: Namespace, point: PeerId) -> Result<Vec<String>, Failure> {
        self.swarm.behaviour_mut().rendezvous.discover(Some(namespace), None, None, point);
        loop {
            match self.next().await {
                SwarmEvent::Behaviour(BehaviourEvent::Rendezvous(rendezvous::client::Event::Discovered {
                    registrations,
                    ..
                })) => return Ok(registrations.iter().map(|one| one.record.peer_id().to_string()).collect()),
                SwarmEvent::Behaviour(BehaviourEvent::Rendezvous(rendezvous::client::Event::DiscoverFailed {
                    error,
                    ..
                })) => return Err(format!("{error:?}").into()),
                _ => {}
            }
        }
    }

    async fn wait_for(&mut self, peer: PeerId) -> Result<Vec<String>, Failure> {
        while !self.found.contains(&peer) {
            self.next().await;
        }
        Ok(Vec::new())
    }
}

fn bytes(text: &str) -> Result<Vec<u8>, Failure> {
    (0..text.len() / 2).map(|at| Ok(u8::from_str_radix(&text[2 * at..2 * at + 2], 16)?)).collect()
}

fn hex(data: &[u8]) -> String {
    data.iter().map(|byte| format!("{byte:02x}")).collect()
}
