/* Pubsub of the js-libp2p peer: what it serves, and what it checks. ../README.md has the topics. */
import { gossipsub } from '@libp2p/gossipsub'
import { setTimeout as sleep } from 'node:timers/promises'

const UP = 'interop/up' // the dialer publishes, the listener takes
const DOWN = 'interop/down' // the listener sends each message back on
const MESSAGES = 1000

export const pubsub = () => gossipsub({ allowPublishToZeroTopicPeers: true })

/** Sends what comes on one topic back on the other. */
export function servePubsub (node) {
  const { pubsub } = node.services
  pubsub.addEventListener('message', ({ detail: { topic, data } }) => {
    if (topic === UP) {
      pubsub.publish(DOWN, data).catch(error => console.error(`pubsub: ${error.message}`))
    }
  })
  pubsub.subscribe(UP)
}

/** Publishes, without a pause, and wants each message back once. */
export async function checkPubsub ({ node }) {
  const { pubsub } = node.services
  const seen = new Map()
  pubsub.addEventListener('message', ({ detail: { topic, data } }) => {
    const text = Buffer.from(data).toString()
    seen.set(text, (seen.get(text) ?? 0) + (topic === DOWN ? 1 : 0))
  })
  pubsub.subscribe(DOWN)
  while (pubsub.getSubscribers(UP).length === 0) {
    await sleep(10)
  }
  for (let n = 0; n < MESSAGES; n++) {
    await pubsub.publish(UP, Buffer.from(`message ${n}`))
  }
  const end = Date.now() + 20_000
  while (seen.size < MESSAGES && Date.now() < end) {
    await sleep(10)
  }
  if (seen.size < MESSAGES || [...seen.values()].some(count => count !== 1)) {
    throw new Error(`${seen.size} of ${MESSAGES} messages came back, in ${[...seen.values()].reduce((a, b) => a + b, 0)} copies`)
  }
}
