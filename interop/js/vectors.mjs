/*
 * Reads RPCs, as we and go-libp2p-pubsub encode them, by js-libp2p's own code, and writes them by it.
 * tests/vectors/README.md has the command.
 */
import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

const entry = fileURLToPath(import.meta.resolve('@libp2p/gossipsub'))
const { RPC } = await import(pathToFileURL(join(dirname(entry), 'message', 'rpc.js')))
const written = {}
for (const [name, hex] of Object.entries(JSON.parse(readFileSync(0)).rpcs)) {
  try {
    written[name] = Buffer.from(RPC.encode(RPC.decode(Buffer.from(hex, 'hex')))).toString('hex')
  } catch {
    written[name] = null // it refuses the RPC
  }
}
console.log(JSON.stringify(written, null, 1))
