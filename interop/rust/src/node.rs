//! The swarm, run by a task of its own, and what it tells the others.

use std::time::Duration;

use futures::StreamExt;
use libp2p::identity::Keypair;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Stream, StreamProtocol, Swarm, gossipsub, identify, ping, swarm};
use tokio::sync::{mpsc, oneshot};

use crate::streams::{self, Inbound, Open};
use crate::{Failure, pubsub, transport};

#[derive(NetworkBehaviour)]
struct Behaviour {
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    pubsub: gossipsub::Behaviour,
    streams: streams::Behaviour,
}

#[derive(Debug)]
pub enum Event {
    Listening(Multiaddr),
    Connected,
    Refused(PeerId, String),
    Pinged(Duration),
    PingFailed(String),
    Identified(PeerId, Box<identify::Info>),
    Subscribed(String),
    Published(String, Vec<u8>),
    Failed(String),
}

pub struct Node {
    pub id: PeerId,
    dials: mpsc::UnboundedSender<DialOpts>,
    wanted: mpsc::UnboundedSender<Open>,
    publications: mpsc::UnboundedSender<(&'static str, Vec<u8>)>,
    events: mpsc::UnboundedReceiver<Event>,
    seen: Vec<(PeerId, identify::Info)>,
    pub in_topic: bool, // whether the other side is in the topic of the pubsub check
}

impl Node {
    pub fn start(served: &[&'static str], inbound: Inbound, listen_on: Option<Multiaddr>) -> Result<Self, Failure> {
        let key = Keypair::generate_ed25519();
        let id = key.public().to_peer_id();
        let (wanted, wanted_from) = mpsc::unbounded_channel();
        let behaviour = Behaviour {
            identify: identify::Behaviour::new(identify::Config::new("ipfs/0.1.0".into(), key.public())),
            ping: ping::Behaviour::default(),
            pubsub: pubsub::behaviour(&key, listen_on.is_some())?,
            streams: streams::Behaviour::new(
                served.iter().map(|protocol| StreamProtocol::new(protocol)).collect(),
                inbound,
                wanted_from,
            ),
        };
        let config = swarm::Config::with_tokio_executor()
            .with_idle_connection_timeout(Duration::from_secs(600))
            .with_max_negotiating_inbound_streams(1000);
        let mut swarm = Swarm::new(transport::build(&key)?, behaviour, id, config);
        if let Some(addr) = listen_on {
            swarm.listen_on(addr)?;
        }
        let (dials, dials_from) = mpsc::unbounded_channel();
        let (events_to, events) = mpsc::unbounded_channel();
        let (publications, publish_from) = mpsc::unbounded_channel();
        tokio::spawn(run(swarm, dials_from, publish_from, events_to));
        Ok(Self { id, dials, wanted, publications, events, seen: Vec::new(), in_topic: false })
    }

    /// The next event but those of identify, which are kept.
    pub async fn next(&mut self) -> Event {
        match self.receive().await {
            Event::Identified(peer, info) => {
                self.seen.push((peer, *info));
                Box::pin(self.next()).await
            }
            event => event,
        }
    }

    async fn receive(&mut self) -> Event {
        let event = self.events.recv().await.expect("the swarm runs as long as the node");
        if let Event::Subscribed(topic) = &event {
            self.in_topic |= topic == pubsub::UP;
        }
        event
    }

    pub fn publish(&self, topic: &'static str, data: Vec<u8>) {
        self.publications.send((topic, data)).expect("the swarm runs as long as the node");
    }

    pub fn dial(&self, options: DialOpts) {
        self.dials.send(options).expect("the swarm runs as long as the node");
    }

    pub async fn open(&self, peer: PeerId, protocol: StreamProtocol) -> Result<Stream, Failure> {
        let (answer, opened) = oneshot::channel();
        self.wanted.send(Open { peer, protocol, answer }).expect("the swarm runs as long as the node");
        Ok(opened.await.map_err(|_| "the connection is gone")??)
    }

    pub async fn identified(&mut self, peer: PeerId) -> identify::Info {
        loop {
            if let Some(at) = self.seen.iter().position(|(who, _)| *who == peer) {
                return self.seen.remove(at).1;
            }
            if let Event::Identified(peer, info) = self.receive().await {
                self.seen.push((peer, *info));
            }
        }
    }

    /// Dials `peer` where somebody else listens; how that failed.
    pub async fn refused(&mut self, peer: PeerId, addr: Multiaddr) -> Result<String, Failure> {
        self.dial(DialOpts::peer_id(peer).addresses(vec![addr]).build());
        loop {
            match self.next().await {
                Event::Refused(who, error) if who == peer => return Ok(error),
                Event::Connected => return Err("the listener passed for somebody else".into()),
                _ => {}
            }
        }
    }
}

async fn run(
    mut swarm: Swarm<Behaviour>,
    mut dials: mpsc::UnboundedReceiver<DialOpts>,
    mut publications: mpsc::UnboundedReceiver<(&'static str, Vec<u8>)>,
    events: mpsc::UnboundedSender<Event>,
) {
    loop {
        let event = tokio::select! {
            Some(options) = dials.recv() => swarm.dial(options).err().map(|error| Event::Failed(error.to_string())),
            Some((topic, data)) = publications.recv() => {
                let published = swarm.behaviour_mut().pubsub.publish(gossipsub::IdentTopic::new(topic), data);
                published.err().map(|error| Event::Failed(format!("pubsub: {error}")))
            }
            event = swarm.select_next_some() => told(event),
        };
        if event.is_some_and(|event| events.send(event).is_err()) {
            return;
        }
    }
}

fn told(event: SwarmEvent<BehaviourEvent>) -> Option<Event> {
    match event {
        SwarmEvent::NewListenAddr { address, .. } => Some(Event::Listening(address)),
        SwarmEvent::ConnectionEstablished { .. } => Some(Event::Connected),
        SwarmEvent::OutgoingConnectionError { peer_id: Some(peer), error, .. } => {
            Some(Event::Refused(peer, error.to_string()))
        }
        SwarmEvent::ConnectionClosed { cause, .. } => Some(Event::Failed(format!("connection closed: {cause:?}"))),
        SwarmEvent::Behaviour(BehaviourEvent::Ping(ping::Event { result, .. })) => Some(match result {
            Ok(rtt) => Event::Pinged(rtt),
            Err(error) => Event::PingFailed(error.to_string()),
        }),
        SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. })) => {
            Some(Event::Identified(peer_id, Box::new(info)))
        }
        SwarmEvent::Behaviour(BehaviourEvent::Pubsub(gossipsub::Event::Subscribed { topic, .. })) => {
            Some(Event::Subscribed(topic.into_string()))
        }
        SwarmEvent::Behaviour(BehaviourEvent::Pubsub(gossipsub::Event::Message { message, .. })) => {
            Some(Event::Published(message.topic.into_string(), message.data))
        }
        _ => None,
    }
}
