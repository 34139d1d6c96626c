//! Pubsub: what the listener serves, and what the dialer checks. ../README.md has the topics.

use std::collections::HashSet;

use libp2p::gossipsub::{Behaviour, ConfigBuilder, IdentTopic, MessageAuthenticity};
use libp2p::identity::Keypair;

use crate::node::{Event, Node};
use crate::{Failure, ensure};

pub const UP: &str = "interop/up"; // the dialer publishes, the listener takes
pub const DOWN: &str = "interop/down"; // the listener sends each message back on
const MESSAGES: usize = 1000;

pub fn behaviour(key: &Keypair, listens: bool) -> Result<Behaviour, Failure> {
    let config = ConfigBuilder::default().build()?;
    let mut behaviour = Behaviour::new(MessageAuthenticity::Signed(key.clone()), config)?;
    behaviour.subscribe(&IdentTopic::new(if listens { UP } else { DOWN }))?;
    Ok(behaviour)
}

/// Sends what comes on one topic back on the other.
pub fn answer(node: &Node, event: Event) {
    if let Event::Published(topic, data) = event
        && topic == UP
    {
        node.publish(DOWN, data);
    }
}

/// Publishes, without a pause, and wants each message back once.
pub async fn check(node: &mut Node) -> Result<(), Failure> {
    while !node.in_topic {
        node.next().await;
    }
    for number in 0..MESSAGES {
        node.publish(UP, format!("message {number}").into_bytes());
    }
    let mut seen = HashSet::new();
    while seen.len() < MESSAGES {
        match node.next().await {
            Event::Published(topic, data) if topic == DOWN => {
                ensure(seen.insert(data), "a message came back twice")?;
            }
            Event::Failed(error) => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}
