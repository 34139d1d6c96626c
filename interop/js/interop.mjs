/*
 * The js-libp2p peer of the interop matrix, on the streams and handlers of peer.mjs.
 * ../README.md says what it is told and what it answers.
 */
import { createHash } from 'node:crypto'
import { networkInterfaces } from 'node:os'
import { createConnection } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { quic } from '@chainsafe/libp2p-quic'
import { generateKeyPair } from '@libp2p/crypto/keys'
import { identify } from '@libp2p/identify'
import { mplex } from '@libp2p/mplex'
import { noise } from '@libp2p/noise'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { tls } from '@libp2p/tls'
import { webSockets } from '@libp2p/websockets'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { play } from './relay.mjs'
import { checkPubsub, pubsub, servePubsub } from './pubsub.mjs'
import { ECHO, MANY, Reader, SLOW_READ, handlers, perf, sha256Of, write, writeRandom } from './peer.mjs'

const HALF_CLOSE = '/interop/half-close/1.0.0'
const RESET = '/interop/reset/1.0.0'
const SEEN = '/interop/seen/1.0.0'
const PATIENCE = 60 // seconds for the other side to come up
const CHECK_MS = 30_000
const NOTED_MS = 5000 // for an end or a reset to come through
const MIB = 1 << 20
const SOMEONE = '12D3KooWSahP5pFRCEfaziPEba7urXGeif6T1y8jmodzdFUvzBHj' // a peer that nobody here is

const env = process.env

const limits = { maxInboundStreams: MANY, maxOutboundStreams: MANY }
const transports = { tcp: [tcp, 'tcp/0'], ws: [webSockets, 'tcp/0/ws'], 'quic-v1': [quic, 'udp/0/quic-v1'] }
const securities = { noise, tls }
// The yamux here would grant a window of up to 16 MiB, and reset a stream of which it has to keep more than 4 MiB.
const yamuxOptions = { ...limits, streamOptions: { maxStreamWindowSize: 2 << 20 } }
// mplex has no windows: what a slow reader leaves has to be kept. The limit of 5 new streams a second is lifted.
const mplexOptions = { ...limits, disconnectThreshold: MANY, streamOptions: { maxReadBufferLength: 32 << 20 } }
const muxers = { yamux: () => yamux(yamuxOptions), mplex: () => mplex(mplexOptions) }
const overQuic = env.TRANSPORT === 'quic-v1'

function chosen (table, name) {
  const found = table[env[name]]
  if (found == null) {
    throw new Error(`${name}=${env[name]}: there is ${Object.keys(table).join(', ')}`)
  }
  return found
}

function ensure (holds, what) {
  if (!holds) {
    throw new Error(what)
  }
}

async function startNode (listen = []) {
  const [transport] = chosen(transports, 'TRANSPORT')
  return createLibp2p({
    privateKey: await generateKeyPair('Ed25519'),
    addresses: { listen },
    transports: [transport()],
    connectionEncrypters: env.SECURE_CHANNEL ? [chosen(securities, 'SECURE_CHANNEL')()] : [],
    streamMuxers: env.MUXER ? [chosen(muxers, 'MUXER')()] : [],
    services: { identify: identify(), ping: ping(), pubsub: pubsub() }
  })
}

/** Sends one command; the last line of the answer: all that RPUSH and BLPOP need. */
async function redis (...words) {
  const [host, port] = env.REDIS_ADDR.split(':')
  const socket = createConnection(Number(port), host)
  socket.write(words.join(' ') + '\r\n')
  let text = ''
  for await (const data of socket) {
    text += data
    const lines = text.split('\r\n').slice(0, -1)
    ensure(!/^(-|\*-1)/.test(text), `redis: ${lines[0]}`)
    if (lines.length >= (text.startsWith('*') ? 5 : 1)) {
      socket.destroy()
      return lines.at(-1)
    }
  }
  throw new Error('redis: connection closed')
}

const redisKey = () => `${env.TEST_KEY}_listener_multiaddr`

function ownIP () {
  const all = Object.values(networkInterfaces()).flat()
  return all.find(one => one.family === 'IPv4' && !one.internal)?.address ?? '127.0.0.1'
}

/** Its QUIC reads on while a stream is paused, and resets it at 4 MiB: what a slow reader leaves has to be kept. */
function roomy (stream) {
  if (overQuic) {
    stream.maxReadBufferLength = 32 << 20
  }
  return stream
}

/** Reads to the end. Its QUIC shows a reset as an end of reading; but then a last byte cannot be written. */
async function wasReset (reader) {
  const lastByte = async () => {
    reader.stream.send(new Uint8Array(1))
    await reader.stream.close() // waits for the byte
  }
  return await caught(reader.drain()) != null || (overQuic && await caught(lastByte()) != null)
}

/** What only a later question can tell the dialer: whether its end or reset has come through. */
const notes = []

const served = {
  ...handlers,
  async [HALF_CLOSE] (stream) {
    const reader = new Reader(stream)
    await stream.close()
    const { digest } = await sha256Of(reader)
    notes.push(`end ${digest}\n`)
  },
  async [RESET] (stream) {
    const reader = new Reader(stream)
    const who = await reader.exactly(1)
    await write(stream, who)
    if (who.toString() === 'l') {
      await sleep(100) // the byte arrives first
      stream.abort(new Error('asked for'))
      return
    }
    notes.push(await wasReset(reader) ? 'reset\n' : 'no reset, but an end\n')
  },
  async [SEEN] (stream) {
    if (notes.length > 0) {
      await write(stream, Buffer.from(notes.join('')))
    }
    await stream.close()
  }
}

async function listen () {
  const [, suffix] = chosen(transports, 'TRANSPORT')
  const ip = env.LISTENER_IP ?? '0.0.0.0'
  const node = await startNode([`/ip4/${ip === '0.0.0.0' ? ownIP() : ip}/${suffix}`])
  for (const [protocol, handler] of Object.entries(served)) {
    await node.handle(protocol, stream => {
      handler(roomy(stream)).catch(error => {
        console.error(`${protocol}: ${error.message}`)
        stream.abort(error)
      })
    }, limits)
  }
  servePubsub(node)
  await redis('RPUSH', redisKey(), String(node.getMultiaddrs()[0]))
  await new Promise(resolve => process.once('SIGTERM', resolve).once('SIGINT', resolve))
  await node.stop()
}

class Dialer {
  constructor (node, connection, addr, identified) {
    Object.assign(this, { node, connection, addr, identified })
  }

  async open (protocol) {
    return roomy(await this.connection.newStream(protocol, { maxOutboundStreams: MANY }))
  }

  async echoOf (total, pause) {
    const stream = await this.open(ECHO)
    const reader = new Reader(stream, pause > 0 ? 1 << 16 : undefined)
    const [sent, got] = await Promise.all([writeRandom(stream, total), readSlowly(reader, pause)])
    ensure(sent === got, 'other bytes came back than were sent')
  }

  /** Waits until the listener has seen this. */
  async noted (line) {
    const end = Date.now() + NOTED_MS
    while (true) {
      const reader = new Reader(await this.open(SEEN))
      let text = ''
      await reader.drain(chunk => { text += Buffer.from(chunk.subarray()) })
      await reader.stream.close()
      if (text.includes(line)) {
        return
      }
      ensure(Date.now() < end, `the listener did not see ${line}, but ${text}`)
      await sleep(100)
    }
  }

  async openForReset (who) {
    const stream = await this.open(RESET)
    const reader = new Reader(stream)
    await write(stream, Buffer.from(who))
    await reader.exactly(1)
    return reader
  }
}

/** First does nothing for a while, then reads to the end, 256 KiB or little more each 10 ms; the SHA-256 of it all. */
async function readSlowly (reader, pause) {
  await sleep(pause)
  const hash = createHash('sha256')
  let sinceRest = 0
  await reader.drain(async chunk => {
    hash.update(chunk.subarray())
    sinceRest += chunk.byteLength
    if (sinceRest >= 1 << 18) {
      sinceRest = 0
      await sleep(10)
    }
  })
  return hash.digest('hex')
}

async function caught (promise) {
  return promise.then(() => null, error => error)
}

const checks = {
  async identify ({ identified }) {
    const seen = await identified
    ensure(seen.agentVersion, 'no agent version')
    for (const protocol of ['/ipfs/ping/1.0.0', ECHO]) {
      ensure(seen.protocols.includes(protocol), `${protocol} is not among ${seen.protocols}`)
    }
    ensure(/^\/ip4\/[\d.]+\/(tcp|udp)\/[1-9]/.test(String(seen.observedAddr)), `observed at ${seen.observedAddr}`)
  },
  echo: dialer => dialer.echoOf(MIB, 0),
  /** All streams stay open until each has had its echo. */
  async streams (dialer) {
    const held = await Promise.all(Array.from({ length: 200 }, async (_, number) => {
      const stream = await dialer.open(ECHO)
      const reader = new Reader(stream)
      const data = Buffer.from(`stream ${number}`)
      await write(stream, data)
      const answer = await reader.exactly(data.length)
      ensure(data.equals(answer), `${answer} came back on stream ${number}`)
      return stream
    }))
    await Promise.all(held.map(stream => stream.close()))
  },
  /** Ends our direction first, on perf; then has the listener end its own first. */
  async 'half-close' (dialer) {
    await perf(dialer.connection, MIB, MIB)
    const stream = await dialer.open(HALF_CLOSE)
    ensure(await new Reader(stream).next() == null, "no end of the listener's direction")
    const sent = await writeRandom(stream, 1 << 16)
    await dialer.noted(`end ${sent}\n`)
  },
  /** Resets a stream in the middle of data, then has the listener reset one; the connection goes on. */
  async reset (dialer) {
    const { stream } = await dialer.openForReset('d')
    await write(stream, new Uint8Array(10_000))
    stream.abort(new Error('in the middle'))
    await dialer.noted('reset\n')
    const reader = await dialer.openForReset('l')
    ensure(await wasReset(reader), 'the listener reset the stream, which shows as its end')
    await checks.echo(dialer)
  },
  async unsupported (dialer) {
    const error = await caught(dialer.open('/no/such/protocol'))
    ensure(error?.name === 'UnsupportedProtocolError', `the stream was opened, or: ${error}`)
    await checks.echo(dialer)
  },
  async 'wrong-peer' (dialer) {
    const [bare] = String(dialer.addr).split('/p2p/')
    const error = await caught(dialer.node.dial(multiaddr(`${bare}/p2p/${SOMEONE}`)))
    ensure(/peer|identity/i.test(String(error?.message)), `the listener passed for somebody else, or: ${error}`)
    await checks.echo(dialer)
  },
  async 'slow-listener' (dialer) {
    const stream = await dialer.open(SLOW_READ)
    const reader = new Reader(stream)
    await write(stream, Buffer.from([0, 0, 1000 >> 8, 1000 & 0xff]))
    const sent = await writeRandom(stream, 10 * MIB)
    ensure((await reader.exactly(32)).toString('hex') === sent, 'other bytes arrived than were sent')
  },
  'slow-dialer': dialer => dialer.echoOf(10 * MIB, 1000),
  pubsub: checkPubsub
}

/** Runs those that CHECKS names, one after the other, and prints how each went. */
async function runChecks (dialer) {
  const names = (env.CHECKS ?? '').split(',').filter(name => name !== '')
  if (names.length > 0) {
    console.log('checks:')
  }
  let passed = true
  for (const name of names) {
    const late = new AbortController()
    const limit = sleep(CHECK_MS, null, { signal: late.signal }).then(() => { throw new Error('took too long') })
    const error = await caught(Promise.race([checks[name](dialer), limit]))
    late.abort()
    await caught(limit)
    passed &&= error == null
    console.log(`  ${name}: ${JSON.stringify(error == null ? 'ok' : `fail: ${error.name}: ${error.message}`)}`)
  }
  return passed
}

async function dial () {
  const addr = multiaddr(await redis('BLPOP', redisKey(), PATIENCE))
  const node = await startNode()
  const identified = new Promise(resolve => {
    node.addEventListener('peer:identify', event => resolve(event.detail), { once: true })
  })
  const start = performance.now()
  const connection = await node.dial(addr)
  const rtt = await node.services.ping.ping(addr)
  const handshake = performance.now() - start
  console.log(`latency:\n  handshake_plus_one_rtt: ${handshake.toFixed(3)}\n  ping_rtt: ${rtt}\n  unit: ms`)
  return runChecks(new Dialer(node, connection, addr, identified))
}

try {
  if (process.argv[2] === 'relay') {
    await play(process.argv.slice(3))
    process.exit()
  }
  process.exitCode = (env.IS_DIALER === 'true' ? await dial() : await listen()) === false ? 1 : 0
} catch (error) {
  console.error(error)
  process.exitCode = 1
}
process.exit()
