//! A pubsub node that another program commands: ../README.md, "In one pubsub network".

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures::StreamExt;
use libp2p::gossipsub::{
    Behaviour, Config, ConfigBuilder, Event, IdentTopic, Message, MessageAcceptance, MessageAuthenticity, MessageId,
    TopicHash, partial_messages,
};
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::SwarmEvent;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::{Multiaddr, PeerId, Swarm, swarm};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufReadExt, BufReader, stdin};
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::serve::hex;
use crate::{Failure, transport};

struct ScriptedNode {
    swarm: Swarm<Behaviour>,
    partial: bool,
    delay: Duration,
    members: HashMap<TopicHash, HashSet<PeerId>>,
    waiting: Vec<(TopicHash, usize)>,
    judged: mpsc::UnboundedSender<(MessageId, PeerId)>,
}

pub async fn run(options: &str) -> Result<(), Failure> {
    let options: Value = serde_json::from_str(options)?;
    let key = Keypair::generate_ed25519();
    let id = key.public().to_peer_id();
    let behaviour = Behaviour::new(MessageAuthenticity::Signed(key.clone()), config(&options)?)?;
    let config = swarm::Config::with_tokio_executor().with_idle_connection_timeout(Duration::from_secs(600));
    let mut swarm = Swarm::new(transport::build(&key)?, behaviour, id, config);
    swarm.listen_on(transport::listen_addr()?)?;
    let (judged, mut verdicts) = mpsc::unbounded_channel();
    let mut node = ScriptedNode {
        swarm,
        partial: options["Partial"] == true,
        delay: Duration::from_millis(options["Delay"].as_u64().unwrap_or(0)),
        members: HashMap::new(),
        waiting: Vec::new(),
        judged,
    };
    let mut lines = BufReader::new(stdin()).lines();
    loop {
        tokio::select! {
            line = lines.next_line() => match line? {
                Some(line) => node.act(&line).map_err(|error| format!("{line}: {error}"))?,
                None => return Ok(()),
            },
            Some((id, source)) = verdicts.recv() => {
                node.swarm.behaviour_mut().report_message_validation_result(&id, &source, MessageAcceptance::Accept);
            }
            event = node.swarm.select_next_some() => node.told(event),
        }
    }
}

fn config(options: &Value) -> Result<Config, Failure> {
    let mut builder = ConfigBuilder::default();
    builder.support_floodsub().validate_messages().heartbeat_initial_delay(Duration::from_millis(100));
    if options["NoMesh"] == true {
        builder.mesh_n(0).mesh_n_low(0).mesh_n_high(0).mesh_outbound_min(0).flood_publish(false);
    }
    if options["PX"] == true {
        builder.do_px();
    }
    if options["HashIDs"] == true {
        builder.message_id_fn(|message: &Message| MessageId::from(Sha256::digest(&message.data).to_vec()));
    }
    Ok(builder.build()?)
}

/// Prints a line for whoever commands.
fn say(line: Value) {
    println!("{line}");
}

impl ScriptedNode {
    fn act(&mut self, line: &str) -> Result<(), Failure> {
        let command: Value = serde_json::from_str(line)?;
        let text = |name: &str| command[name].as_str().unwrap_or_default().to_string();
        let number = |name: &str| command[name].as_u64().unwrap_or(0) as usize;
        let topic = IdentTopic::new(text("Topic"));
        match text("Do").as_str() {
            "connect" => {
                let mut addr: Multiaddr = text("Addr").parse()?;
                let Some(Protocol::P2p(peer)) = addr.pop() else { return Err("no peer id".into()) };
                self.swarm.dial(DialOpts::peer_id(peer).addresses(vec![addr]).build())?;
            }
            "subscribe" => {
                if self.partial {
                    self.swarm.behaviour_mut().enable_partials_for_topic(topic.hash(), true);
                }
                self.swarm.behaviour_mut().subscribe(&topic)?;
            }
            "wait" => {
                self.waiting.push((topic.hash(), number("Peers")));
                self.answer_waiting();
            }
            "publish" => {
                for n in number("First")..number("First") + number("Count") {
                    let data = format!("{n:.<width$}", n = n.to_string(), width = number("Size"));
                    self.swarm.behaviour_mut().publish(topic.clone(), data.into_bytes())?;
                }
                say(json!({"published": text("Topic")}));
            }
            "part" => {
                let part = Part {
                    group: text("Group").into_bytes(),
                    message: unhex(&text("Message"))?,
                    parts: Parts(unhex(&text("Parts"))?),
                };
                self.swarm.behaviour_mut().publish_partial(topic.hash(), part)?;
            }
            other => return Err(format!("no command {other:?}").into()),
        }
        Ok(())
    }

    fn told(&mut self, event: SwarmEvent<Event>) {
        match event {
            SwarmEvent::NewListenAddr { address, .. } => {
                say(json!({"addr": format!("{address}/p2p/{}", self.swarm.local_peer_id())}));
            }
            SwarmEvent::Behaviour(Event::Message { propagation_source, message_id, message }) => {
                let number = String::from_utf8_lossy(&message.data).trim_end_matches('.').to_string();
                say(json!({"got": message.topic.as_str(), "n": number, "from": propagation_source.to_string()}));
                let (judged, delay) = (self.judged.clone(), self.delay);
                tokio::spawn(async move {
                    sleep(delay).await;
                    let _ = judged.send((message_id, propagation_source)); // nobody is there at the end
                });
            }
            SwarmEvent::Behaviour(Event::Subscribed { peer_id, topic, .. }) => {
                self.members.entry(topic).or_default().insert(peer_id);
                self.answer_waiting();
            }
            SwarmEvent::Behaviour(Event::Unsubscribed { peer_id, topic }) => {
                self.members.entry(topic).or_default().remove(&peer_id);
            }
            SwarmEvent::Behaviour(Event::Partial { topic_hash, peer_id, group_id, message, metadata }) => say(json!({
                "part": topic_hash.as_str(),
                "group": String::from_utf8_lossy(&group_id),
                "from": peer_id.to_string(),
                "message": hex(&message.unwrap_or_default()),
                "parts": hex(&metadata.unwrap_or_default()),
            })),
            _ => {}
        }
    }

    fn answer_waiting(&mut self) {
        let members = &self.members;
        self.waiting.retain(|(topic, count)| {
            let enough = members.get(topic).map_or(0, HashSet::len) >= *count;
            if enough {
                say(json!({"waited": topic.as_str()}));
            }
            !enough
        });
    }
}

fn unhex(text: &str) -> Result<Vec<u8>, Failure> {
    (0..text.len() / 2).map(|at| Ok(u8::from_str_radix(&text[2 * at..2 * at + 2], 16)?)).collect()
}

/// A part, for all who have not got one of the group, and what parts there are.
struct Part {
    group: Vec<u8>,
    message: Vec<u8>,
    parts: Parts,
}

#[derive(Clone, Debug)]
struct Parts(Vec<u8>);

impl partial_messages::Metadata for Parts {
    fn as_slice(&self) -> &[u8] {
        &self.0
    }

    fn update(&mut self, data: &[u8]) -> Result<bool, partial_messages::PartialError> {
        let changed = self.0 != data;
        self.0 = data.to_vec();
        Ok(changed)
    }
}

impl partial_messages::Partial for Part {
    fn group_id(&self) -> Vec<u8> {
        self.group.clone()
    }

    fn metadata(&self) -> Box<dyn partial_messages::Metadata> {
        Box::new(self.parts.clone())
    }

    fn partial_action_from_metadata(
        &self,
        _: PeerId,
        _: Option<&[u8]>,
    ) -> Result<partial_messages::PartialAction, partial_messages::PartialError> {
        Ok(partial_messages::PartialAction {
            need: false,
            send: Some((self.message.clone(), Box::new(self.parts.clone()))),
        })
    }
}
