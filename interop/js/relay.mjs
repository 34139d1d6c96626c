/*
 * js-libp2p in a part of a triangle: `interop.mjs relay PART [ADDR] LISTEN`. ../README.md has the contract.
 * It punches no holes: it can't dial from the port that it listens on.
 */
import { quic } from '@chainsafe/libp2p-quic'
import { circuitRelayServer, circuitRelayTransport } from '@libp2p/circuit-relay-v2'
import { generateKeyPair } from '@libp2p/crypto/keys'
import { identify } from '@libp2p/identify'
import { noise } from '@libp2p/noise'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { ECHO, Reader, handlers, write } from './peer.mjs'

const MESSAGE = Buffer.from('through the relay')
const PATIENCE = 30_000

async function start (listen, services = {}) {
  const node = await createLibp2p({
    privateKey: await generateKeyPair('Ed25519'),
    addresses: { listen },
    transports: [listen[0].endsWith('quic-v1') ? quic() : tcp(), circuitRelayTransport()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    connectionGater: { denyDialMultiaddr: () => false }, // loopback too
    services: { identify: identify(), ping: ping(), ...services }
  })
  await node.handle(ECHO, stream => {
    handlers[ECHO](stream).catch(error => {
      console.error(`${ECHO}: ${error.message}`)
      stream.abort(error)
    })
  }, { runOnLimitedConnection: true })
  return node
}

/** Our address that holds; there is none at the relay before the reservation. */
async function address (node, holds) {
  for (const until = Date.now() + PATIENCE; Date.now() < until;) {
    const found = node.getMultiaddrs().find(addr => holds(addr.toString()))
    if (found != null) {
      return found.toString()
    }
    await new Promise(resolve => { setTimeout(resolve, 50) })
  }
  throw new Error('no such address of ours')
}

async function dial (node, addr) {
  const stream = await node.dialProtocol(multiaddr(addr), ECHO, { runOnLimitedConnection: true })
  const reader = new Reader(stream)
  await write(stream, MESSAGE)
  await stream.close()
  const chunks = []
  for (let chunk = await reader.next(); chunk != null; chunk = await reader.next()) {
    chunks.push(chunk.subarray())
  }
  return Buffer.concat(chunks).toString()
}

/** Plays a part until its input ends. */
export async function play ([part, ...args]) {
  const listen = args.at(-1)
  switch (part) {
    case 'server': {
      const node = await start([listen], { relay: circuitRelayServer() })
      console.log(await address(node, text => !text.includes('p2p-circuit')))
      break
    }
    case 'listen': {
      const node = await start([listen, `${args[0]}/p2p-circuit`])
      console.log(await address(node, text => text.includes('p2p-circuit')))
      break
    }
    case 'dial':
      console.log(await dial(await start([listen]), args[0]))
      break
    default:
      throw new Error(`no such part: ${part}`)
  }
  process.stdin.resume()
  await new Promise(resolve => { process.stdin.once('end', resolve) })
}
