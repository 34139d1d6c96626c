/*
 * The js-libp2p peer that py-libp2p is tested and measured against: TCP, Noise, yamux, default settings
 * (but for the limits on how many connections and streams one peer may open). `npm ci` sets it up, and on Linux x64
 * brings a Node of its own, `node_modules/.bin/node`; elsewhere any Node from 22 on does.
 *
 *   node peer.mjs listen [MULTIADDR]        prints {"ready": true, "addrs": [...]}, serves until stdin closes, exits 0
 *   node peer.mjs dial ADDR COMMAND ARG...  prints one JSON object, {"command", "ok", ...}; exits 0 if ok, else 1
 *
 * With TRANSPORT=quic-v1 in the environment both use QUIC (which has its own security and muxer) in place of all that.
 *
 *   ping N                  N round trips on one ping stream each
 *   identify                what the listener says of itself
 *   perf UP DOWN            /perf/1.0.0, bytes
 *   echo N                  N bytes through /echo/1.0.0, compared by SHA-256
 *   slow-read N [PAUSE_MS]  N bytes to a reader that first does nothing for a while; it answers with the SHA-256
 *   streams N               N streams at once, 100 bytes echoed on each
 *   unsupported             opens /no/such/protocol, wants a refusal
 *   bench WHAT N ...        any of: connect N, rtt N, upload BYTES, download BYTES, streams N, idle N; a line for each
 *
 * The listener serves ping, identify, /perf/1.0.0, /echo/1.0.0, /interop/slow-read/1.0.0 and /bench/rss/1.0.0
 * (collects garbage, then answers its resident bytes as a decimal number). Slow-read: the dialer sends how many
 * milliseconds to do nothing (u32, big-endian), then bytes to the end; the listener takes at most 256 KiB, and so many
 * bytes again each 10 ms, and answers with the 32 bytes of their SHA-256.
 */
import { createHash, randomBytes } from 'node:crypto'
import { realpathSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { identify } from '@libp2p/identify'
import { noise } from '@libp2p/noise'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'

export const ECHO = '/echo/1.0.0'
export const PERF = '/perf/1.0.0'
export const SLOW_READ = '/interop/slow-read/1.0.0'
const RSS = '/bench/rss/1.0.0'
export const MANY = 100_000 // more streams than any test opens
const HIGH_WATER = 1 << 20 // bytes read ahead of the consumer before the stream is paused
const BLOCK = new Uint8Array(1 << 16)
const IN_FLIGHT = 64 // streams at once in `bench streams`
const SETTLE_MS = 10 // between two connects: lets identify and the hang-up end, so they are not timed

/** Reads a stream in order, pausing it while the consumer is behind. */
export class Reader {
  chunks = []
  size = 0
  ended = false
  error = null
  wake = () => {}

  constructor (stream, highWater = HIGH_WATER) {
    this.stream = stream
    this.highWater = highWater
    stream.addEventListener('message', ({ data }) => {
      this.chunks.push(data)
      this.size += data.byteLength
      if (stream.readableEnded && stream.readBufferLength === 0) {
        this.ended = true
      } else if (this.size > this.highWater) {
        stream.pause()
      }
      this.wake()
    })
    const end = (error) => {
      this.ended = true
      this.error ??= error ?? null
      this.wake()
    }
    stream.addEventListener('end', () => end())
    stream.addEventListener('close', (event) => {
      if (event.error != null) {
        end(event.error)
      }
    })
    if (stream.readableEnded && stream.readBufferLength === 0) { // it can have ended with data still to be delivered
      end()
    }
  }

  /** The next chunk, or null at the end of the stream. */
  async next () {
    while (this.chunks.length === 0) {
      if (this.error != null) {
        throw this.error
      }
      if (this.ended) {
        return null
      }
      await new Promise(resolve => { this.wake = resolve })
    }
    const chunk = this.chunks.shift()
    this.size -= chunk.byteLength
    if (this.size <= this.highWater && this.stream.readStatus === 'paused') {
      this.stream.resume()
    }
    return chunk
  }

  async exactly (count) {
    const parts = []
    let have = 0
    while (have < count) {
      const chunk = await this.next()
      if (chunk == null) {
        throw new Error(`the stream ended after ${have} of ${count} bytes`)
      }
      const bytes = chunk.subarray()
      const take = Math.min(bytes.byteLength, count - have)
      parts.push(bytes.subarray(0, take))
      have += take
      if (take < bytes.byteLength) {
        this.chunks.unshift(bytes.subarray(take))
        this.size += bytes.byteLength - take
      }
    }
    return Buffer.concat(parts)
  }

  /** Reads to the end; gives each chunk to `use`, returns how many bytes there were. */
  async drain (use = () => {}) {
    let total = 0
    for (let chunk = await this.next(); chunk != null; chunk = await this.next()) {
      total += chunk.byteLength
      await use(chunk)
    }
    return total
  }
}

export async function write (stream, data) {
  if (!stream.send(data)) {
    await stream.onDrain()
  }
}

export async function writeZeros (stream, total) {
  for (let left = total; left > 0; left -= BLOCK.byteLength) {
    await write(stream, left >= BLOCK.byteLength ? BLOCK : BLOCK.subarray(0, left))
  }
}

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc')

export const handlers = {
  async [ECHO] (stream) {
    await new Reader(stream).drain(chunk => write(stream, chunk))
    await stream.close()
  },
  async [PERF] (stream) {
    const reader = new Reader(stream)
    const wanted = Number((await reader.exactly(8)).readBigUInt64BE())
    await reader.drain()
    await writeZeros(stream, wanted)
    await stream.close()
  },
  async [SLOW_READ] (stream) {
    const hash = createHash('sha256')
    const reader = new Reader(stream, 1 << 16)
    await sleep((await reader.exactly(4)).readUInt32BE())
    let sinceRest = 0
    await reader.drain(async (chunk) => {
      hash.update(chunk.subarray())
      sinceRest += chunk.byteLength
      if (sinceRest > 1 << 18) {
        sinceRest = 0
        await sleep(10)
      }
    })
    await write(stream, hash.digest())
    await stream.close()
  },
  async [RSS] (stream) {
    collectGarbage()
    await sleep(200)
    collectGarbage()
    await write(stream, Buffer.from(String(process.memoryUsage().rss)))
    await stream.close()
  }
}

/** What connections are made of, and where to listen. The QUIC package is loaded only where it is used. */
const stacks = {
  tcp: async () => ({
    transports: [tcp()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux({ maxInboundStreams: MANY, maxOutboundStreams: MANY })]
  }),
  'quic-v1': async () => ({ transports: [(await import('@chainsafe/libp2p-quic')).quic()] })
}
const listenAddresses = { tcp: '/ip4/127.0.0.1/tcp/0', 'quic-v1': '/ip4/127.0.0.1/udp/0/quic-v1' }
const transport = process.env.TRANSPORT || 'tcp'

async function startNode (listen = []) {
  const node = await createLibp2p({
    addresses: { listen },
    ...await stacks[transport](),
    connectionManager: {
      maxConnections: MANY,
      inboundConnectionThreshold: MANY,
      maxIncomingPendingConnections: MANY
    },
    services: { identify: identify(), ping: ping() }
  })
  for (const [protocol, handler] of Object.entries(handlers)) {
    await node.handle(protocol, stream => {
      handler(stream).catch(error => stream.abort(error))
    }, { maxInboundStreams: MANY, maxOutboundStreams: MANY })
  }
  return node
}

async function echoOnce (connection, data) {
  const stream = await connection.newStream(ECHO)
  const reader = new Reader(stream)
  await write(stream, data)
  const answer = await reader.exactly(data.byteLength)
  await stream.close()
  if (Buffer.compare(answer, data) !== 0) {
    throw new Error('the echo differs from what was sent')
  }
}

export async function sha256Of (reader) {
  const hash = createHash('sha256')
  const bytes = await reader.drain(chunk => { hash.update(chunk.subarray()) })
  return { bytes, digest: hash.digest('hex') }
}

export async function writeRandom (stream, total) {
  const hash = createHash('sha256')
  for (let left = total; left > 0; left -= BLOCK.byteLength) {
    const block = randomBytes(Math.min(left, BLOCK.byteLength))
    hash.update(block)
    await write(stream, block)
  }
  await stream.close()
  return hash.digest('hex')
}

export async function perf (connection, up, down) {
  const start = performance.now()
  const stream = await connection.newStream(PERF)
  const reader = new Reader(stream)
  const wanted = Buffer.alloc(8)
  wanted.writeBigUInt64BE(BigInt(down))
  await write(stream, wanted)
  await writeZeros(stream, up)
  await stream.close()
  const received = await reader.drain()
  if (received !== down) {
    throw new Error(`${received} of ${down} bytes arrived`)
  }
  return (performance.now() - start) / 1000
}

const commands = {
  async ping (node, connection, count) {
    const rtts = []
    for (let i = 0; i < Number(count); i++) {
      rtts.push(await node.services.ping.ping(connection.remotePeer))
    }
    return { count: rtts.length, rtt_ms: rtts }
  },
  async identify (node, connection, identified) {
    const seen = await identified // js-libp2p asks once by itself when a connection opens
    return {
      peer_id: seen.peerId.toString(),
      protocol_version: seen.protocolVersion,
      agent_version: seen.agentVersion,
      listen_addrs: seen.listenAddrs.map(String),
      observed_addr: String(seen.observedAddr),
      protocols: seen.protocols,
      signed_record: seen.signedPeerRecord != null
    }
  },
  async perf (node, connection, up, down) {
    const seconds = await perf(connection, Number(up), Number(down))
    return { up: Number(up), down: Number(down), seconds }
  },
  async echo (node, connection, count) {
    const stream = await connection.newStream(ECHO)
    const answer = sha256Of(new Reader(stream))
    const [sent, { bytes, digest }] = await Promise.all([writeRandom(stream, Number(count)), answer])
    return { bytes, sha256: digest, ok: bytes === Number(count) && digest === sent }
  },
  async 'slow-read' (node, connection, count, pause = '1000') { // by default long enough to fill every window
    const stream = await connection.newStream(SLOW_READ)
    const reader = new Reader(stream)
    const header = Buffer.alloc(4)
    header.writeUInt32BE(Number(pause))
    await write(stream, header)
    const sent = await writeRandom(stream, Number(count))
    const digest = (await reader.exactly(32)).toString('hex')
    return { bytes: Number(count), sha256: digest, ok: digest === sent }
  },
  async streams (node, connection, count) {
    await Promise.all(Array.from({ length: Number(count) }, () => echoOnce(connection, randomBytes(100))))
    return { streams: Number(count) }
  },
  async unsupported (node, connection) {
    try {
      const stream = await connection.newStream('/no/such/protocol')
      stream.abort(new Error('not wanted'))
    } catch (error) {
      return { refusal: error.name, ok: error.name === 'UnsupportedProtocolError' }
    }
    return { ok: false, error: 'the stream was opened' }
  }
}

function median (values) {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}

/** Milliseconds of each of `count` runs, after a tenth as many to warm up. */
async function timed (count, run) {
  const times = []
  for (let i = -Math.ceil(count / 10); i < count; i++) {
    const start = performance.now()
    const after = await run()
    if (i >= 0) {
      times.push(performance.now() - start)
    }
    await after?.()
  }
  return times
}

async function residentBytes (connection) {
  const reader = new Reader(await connection.newStream(RSS))
  let text = ''
  await reader.drain(chunk => { text += Buffer.from(chunk.subarray()).toString() })
  return Number(text)
}

async function inFlight (count, width, run) {
  let next = 0
  await Promise.all(Array.from({ length: width }, async () => {
    while (next < count) {
      next++
      await run()
    }
  }))
}

const benches = {
  /** The same node, hanging up between; the time until `dial` hands over a connection that can open streams. */
  async connect (node, connection, count, addr) {
    await connection.close()
    const times = await timed(count, async () => {
      const fresh = await node.dial(addr)
      return async () => {
        await sleep(SETTLE_MS)
        await fresh.close()
        await sleep(SETTLE_MS)
      }
    })
    return { connect_ms: median(times) }
  },
  /** Open a stream (agreeing on its protocol), a byte there, a byte back, close. */
  async rtt (node, connection, count) {
    const times = await timed(count, () => echoOnce(connection, new Uint8Array(1)))
    return { rtt_ms: median(times) }
  },
  async upload (node, connection, bytes) {
    await perf(connection, bytes / 10, 0)
    return { upload_mb_per_s: bytes / 1e6 / await perf(connection, bytes, 0) }
  },
  async download (node, connection, bytes) {
    await perf(connection, 0, bytes / 10)
    return { download_mb_per_s: bytes / 1e6 / await perf(connection, 0, bytes) }
  },
  async streams (node, connection, count) {
    const run = () => echoOnce(connection, new Uint8Array(1))
    await inFlight(count / 10, IN_FLIGHT, run)
    const start = performance.now()
    await inFlight(count, IN_FLIGHT, run)
    return { streams_per_s: count / (performance.now() - start) * 1000, in_flight: IN_FLIGHT }
  },
  /**
   * Each connection from a node and an identity of its own, all in this process; the listener tells its memory
   * before and after. Give it a fresh listener: memory that other work has left free would hide the connections.
   */
  async idle (node, connection, count, addr) {
    const nodes = []
    const grow = async more => {
      await inFlight(more, 16, async () => {
        const other = await startNode()
        nodes.push(other)
        await other.dial(addr)
      })
      await sleep(1000)
    }
    await grow(50) // warms up the listener
    const before = await residentBytes(connection)
    await grow(count)
    const after = await residentBytes(connection)
    const open = nodes.filter(other => other.getConnections().length === 1).length
    await Promise.all(nodes.map(other => other.stop()))
    return { open, rss_before: before, rss_after: after, bytes_per_connection: (after - before) / count }
  }
}

function print (line) {
  process.stdout.write(JSON.stringify(line) + '\n')
}

async function listen (address = listenAddresses[transport]) {
  const node = await startNode([address])
  print({ ready: true, addrs: node.getMultiaddrs().map(String) })
  await process.stdin.resume().toArray()
  await node.stop()
}

async function dial (address, name, ...args) {
  const addr = multiaddr(address)
  const node = await startNode()
  try {
    const identified = new Promise(resolve => {
      node.addEventListener('peer:identify', event => resolve(event.detail), { once: true })
    })
    let connection = await node.dial(addr)
    if (name === 'identify') {
      args.unshift(identified)
    }
    if (name !== 'bench') {
      const result = { command: name, ok: true, ...await commands[name](node, connection, ...args) }
      print(result)
      return result.ok
    }
    for (let i = 0; i < args.length; i += 2) {
      connection = await node.dial(addr)
      const [what, count] = [args[i], Number(args[i + 1])]
      print({ command: 'bench', ok: true, what, count, ...await benches[what](node, connection, count, addr) })
    }
    return true
  } catch (error) {
    print({ command: name, ok: false, error: `${error.name}: ${error.message}` })
    return false
  } finally {
    await node.stop()
  }
}

if (realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) { // run, not imported
  const [role, ...args] = process.argv.slice(2)
  if (!Object.hasOwn(stacks, transport)) {
    console.error(`TRANSPORT=${transport}: there is ${Object.keys(stacks).join(', ')}`)
    process.exitCode = 2
  } else if (role === 'listen') {
    await listen(...args)
  } else if (role === 'dial' && (args[1] === 'bench' || Object.hasOwn(commands, args[1]))) {
    process.exitCode = await dial(...args) ? 0 : 1
  } else {
    console.error('usage: node peer.mjs listen [MULTIADDR] | dial ADDR COMMAND ARG...')
    process.exitCode = 2
  }
  process.exit()
}
