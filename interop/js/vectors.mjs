/*
 * Reads RPCs, as we and go-libp2p-pubsub encode them, by js-libp2p's own code, and writes them by it; signs messages, and
 * judges those that go signed. tests/vectors/README.md has the command.
 */
import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { generateKeyPair, publicKeyToProtobuf } from '@libp2p/crypto/keys'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'

const folder = dirname(fileURLToPath(import.meta.resolve('@libp2p/gossipsub')))
const inside = (...path) => import(pathToFileURL(join(folder, ...path)))
const { RPC } = await inside('message', 'rpc.js')
const { buildRawMessage, validateToRawMessage } = await inside('utils', 'buildRawMessage.js')
const { PublishConfigType } = await inside('types.js')
const { StrictNoSign, StrictSign } = await inside('index.js')

const hex = bytes => Buffer.from(bytes).toString('hex')
const given = JSON.parse(readFileSync(0))
const data = Buffer.from('data')
const written = { rpcs: {}, signed: {}, unsigned: '', valid: {} }

for (const [name, text] of Object.entries(given.rpcs)) {
  try {
    written.rpcs[name] = hex(RPC.encode(RPC.decode(Buffer.from(text, 'hex'))))
  } catch {
    written.rpcs[name] = null // it refuses the RPC
  }
}
for (const type of ['RSA', 'Ed25519', 'secp256k1']) { // it has no peer ids of ECDSA keys
  const privateKey = await generateKeyPair(type)
  const author = peerIdFromPrivateKey(privateKey)
  const key = publicKeyToProtobuf(privateKey.publicKey)
  const config = { type: PublishConfigType.Signing, author, key, privateKey }
  const { raw } = await buildRawMessage(config, 'topi', data, data)
  written.signed[type.toUpperCase()] = hex(RPC.encode({ subscriptions: [], messages: [raw] }))
}
const { raw } = await buildRawMessage({ type: PublishConfigType.Anonymous }, 'topi', data, data)
written.unsigned = hex(RPC.encode({ subscriptions: [], messages: [raw] }))
for (const [type, text] of Object.entries(given.signed)) {
  const [message] = RPC.decode(Buffer.from(text, 'hex')).messages
  const { valid } = await validateToRawMessage(StrictSign, message)
  const forged = await validateToRawMessage(StrictSign, { ...message, data: Buffer.from('date') })
  const anonymous = await validateToRawMessage(StrictNoSign, message)
  written.valid[type] = [valid, forged.valid, anonymous.valid]
}
console.log(JSON.stringify(written, null, 1))
