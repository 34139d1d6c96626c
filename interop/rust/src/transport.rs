//! The transport, secure channel and muxer that the environment names.

use libp2p::core::Transport as _;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::Boxed;
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::{Multiaddr, PeerId, noise, quic, tcp, tls, yamux};
use libp2p_mplex::{Config as MplexConfig, MaxBufferBehaviour};
use libp2p_websocket as websocket;

use crate::{Failure, env};

pub type Transport = Boxed<(PeerId, StreamMuxerBox)>;

pub fn listen_addr() -> Result<Multiaddr, Failure> {
    let suffix = match env("TRANSPORT").as_str() {
        "tcp" => "tcp/0",
        "ws" => "tcp/0/ws",
        "quic-v1" => "udp/0/quic-v1",
        other => return Err(format!("no transport {other:?}").into()),
    };
    let ip = Some(env("LISTENER_IP")).filter(|ip| !ip.is_empty()).unwrap_or("0.0.0.0".into());
    Ok(format!("/ip4/{ip}/{suffix}").parse()?)
}

pub fn build(key: &Keypair) -> Result<Transport, Failure> {
    let tcp = || tcp::tokio::Transport::new(tcp::Config::default().nodelay(true));
    match env("TRANSPORT").as_str() {
        "tcp" => upgraded(tcp(), key),
        "ws" => upgraded(websocket::Config::new(tcp()), key),
        "quic-v1" => Ok(quic::tokio::Transport::new(quic::Config::new(key))
            .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
            .boxed()),
        other => Err(format!("no transport {other:?}").into()),
    }
}

fn upgraded<T>(transport: T, key: &Keypair) -> Result<Transport, Failure>
where
    T: libp2p::core::Transport + Send + Unpin + 'static,
    T::Output: futures::AsyncRead + futures::AsyncWrite + Send + Unpin + 'static,
    T::Error: Send + Sync + 'static,
    T::Dial: Send,
    T::ListenerUpgrade: Send,
{
    let raw = transport.upgrade(Version::V1Lazy);
    match (env("SECURE_CHANNEL").as_str(), env("MUXER").as_str()) {
        ("noise", "yamux") => Ok(raw.authenticate(noise::Config::new(key)?).multiplex(yamux::Config::default()).boxed()),
        ("noise", "mplex") => Ok(raw.authenticate(noise::Config::new(key)?).multiplex(mplex()).boxed()),
        ("tls", "yamux") => Ok(raw.authenticate(tls::Config::new(key)?).multiplex(yamux::Config::default()).boxed()),
        ("tls", "mplex") => Ok(raw.authenticate(tls::Config::new(key)?).multiplex(mplex()).boxed()),
        (security, muxer) => Err(format!("no {security:?} with {muxer:?}").into()),
    }
}

/// mplex has no windows: a slow reader either loses its stream (this library's default) or holds up the connection.
fn mplex() -> MplexConfig {
    let mut config = MplexConfig::new();
    config.set_max_buffer_behaviour(MaxBufferBehaviour::Block).set_max_num_streams(1024);
    config
}
