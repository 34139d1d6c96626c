/*
 * A server of js-libp2p's DHT that does what it is told on stdin, one command a line, and ends with it.
 * ../README.md has the commands. Called with where to listen, the protocol of the DHT, and `mdns` where it is to look around.
 */
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { quic } from '@chainsafe/libp2p-quic'
import { generateKeyPair } from '@libp2p/crypto/keys'
import { identify } from '@libp2p/identify'
import { kadDHT, passthroughMapper } from '@libp2p/kad-dht'
import { mdns } from '@libp2p/mdns'
import { noise } from '@libp2p/noise'
import { peerIdFromString } from '@libp2p/peer-id'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { CID } from 'multiformats/cid'

const PATIENCE = 20_000 // milliseconds for what one command does
const [listen, protocol, ...more] = process.argv.slice(2)

/** Takes any value under /v/ and /ipns/; the largest of /v/ is the best, and the asker chooses among those of /ipns/. */
const anything = async () => {}
const largest = (_, values) => values.reduce((best, value, at) => Buffer.compare(value, values[best]) > 0 ? at : best, 0)

const node = await createLibp2p({
  privateKey: await generateKeyPair('Ed25519'),
  addresses: { listen: [listen] },
  transports: listen.endsWith('quic-v1') ? [quic()] : [tcp()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  connectionGater: { denyDialMultiaddr: () => false }, // loopback too
  peerDiscovery: more.includes('mdns') ? [mdns()] : [],
  services: {
    identify: identify(),
    ping: ping(),
    dht: kadDHT({
      protocol,
      clientMode: false,
      peerInfoMapper: passthroughMapper,
      validators: { v: anything, ipns: anything },
      selectors: { v: largest, ipns: largest }
    })
  }
})
const { dht } = node.services
const found = new Set() // by mDNS
node.addEventListener('peer:discovery', ({ detail }) => found.add(detail.id.toString()))
await dht.setMode('server')
console.log(String(node.getMultiaddrs()[0]))

for await (const line of createInterface({ input: process.stdin })) {
  try {
    for (const answer of await obey(line.split(' '), AbortSignal.timeout(PATIENCE))) {
      console.log(String(answer))
    }
  } catch (error) {
    console.log(`error ${String(error.message).replaceAll('\n', '; ')}`)
  }
  console.log('done')
}
process.exit()

async function obey ([command, ...words], signal) {
  switch (command) {
    case 'connect': {
      const { remotePeer } = await node.dial(multiaddr(words[0]), { signal })
      while (await dht.routingTable.find(remotePeer, { signal }) == null) {
        await sleep(20, undefined, { signal })
      }
      await dht.refreshRoutingTable({ force: true })
      return []
    }
    case 'provide':
      await node.contentRouting.provide(CID.parse(words[0]), { signal })
      return []
    case 'find-providers': {
      for await (const { id } of node.contentRouting.findProviders(CID.parse(words[0]), { signal })) {
        return [id]
      }
      return []
    }
    case 'put':
      await node.contentRouting.put(Buffer.from(words[0], 'hex'), Buffer.from(words[1], 'hex'), { signal })
      return []
    case 'get': {
      const values = []
      for await (const event of dht.get(Buffer.from(words[0], 'hex'), { signal })) {
        if (event.name === 'VALUE') {
          values.push(Buffer.from(event.value).toString('hex'))
        }
      }
      return values
    }
    case 'find-peer':
      return (await node.peerRouting.findPeer(peerIdFromString(words[0]), { signal })).multiaddrs
    case 'found': {
      while (!found.has(words[0])) {
        await sleep(20, undefined, { signal })
      }
      return []
    }
  }
  throw new Error(`what is ${command}?`)
}
