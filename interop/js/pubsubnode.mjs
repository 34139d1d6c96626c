/* A pubsub node that another program commands: ../README.md, "In one pubsub network". */
import { createHash } from 'node:crypto'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { quic } from '@chainsafe/libp2p-quic'
import { gossipsub } from '@libp2p/gossipsub'
import { identify } from '@libp2p/identify'
import { noise } from '@libp2p/noise'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'

const options = JSON.parse(process.argv[2])

/** Prints a line for whoever commands. */
const say = line => { process.stdout.write(JSON.stringify(line) + '\n') }

const overQuic = process.env.TRANSPORT === 'quic-v1'
const stack = overQuic
  ? { addresses: { listen: ['/ip4/127.0.0.1/udp/0/quic-v1'] }, transports: [quic()] }
  : {
      addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
      transports: [tcp()],
      connectionEncrypters: [noise()],
      streamMuxers: [yamux()]
    }
const node = await createLibp2p({
  ...stack,
  connectionManager: { inboundConnectionThreshold: 1000 }, // of one address in a second
  services: {
    identify: identify(),
    pubsub: gossipsub({
      allowPublishToZeroTopicPeers: true,
      scoreParams: { IPColocationFactorWeight: 0 }, // all are on one address here
      scoreThresholds: { acceptPXThreshold: 0 },
      doPX: options.PX === true,
      ...(options.NoSign ? { globalSignaturePolicy: 'StrictNoSign' } : {}),
      ...(options.NoMesh ? { D: 0, Dlo: 0, Dhi: 0, Dscore: 0, Dout: 0, floodPublish: false } : {}),
      ...(options.HashIDs ? { msgIdFn: message => createHash('sha256').update(message.data).digest() } : {})
    })
  }
})
const { pubsub } = node.services
pubsub.addEventListener('gossipsub:message', ({ detail: { propagationSource, msg } }) => {
  if (!options.Quiet && !propagationSource.equals(node.peerId)) {
    say({ got: msg.topic, n: Buffer.from(msg.data).toString().replace(/\.*$/, ''), from: propagationSource.toString() })
  }
})

const commands = {
  async connect ({ Addr }) {
    await node.dial(multiaddr(Addr))
  },
  async subscribe ({ Topic }) {
    if (options.Delay > 0) {
      pubsub.topicValidators.set(Topic, async () => {
        await sleep(options.Delay)
        return 'accept'
      })
    }
    pubsub.subscribe(Topic)
  },
  async wait ({ Topic, Peers }) {
    while (pubsub.getSubscribers(Topic).length < Peers) {
      await sleep(5)
    }
    say({ waited: Topic })
  },
  async publish ({ Topic, First, Count, Size }) {
    for (let n = First; n < First + Count; n++) {
      await pubsub.publish(Topic, Buffer.from(String(n).padEnd(Size, '.')))
    }
    say({ published: Topic })
  }
}

say({ addr: String(node.getMultiaddrs()[0]) })
for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line)
  await commands[command.Do](command)
}
await node.stop()
process.exit()
