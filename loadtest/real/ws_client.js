// Talks to the echo of server.js through the proxy: ws_client.js PORT MESSAGES. One line about it, exit 1 if anything is wrong.
'use strict';
const assert = require('assert');
const crypto = require('crypto');
const WebSocket = require('ws');

const [port, messages] = process.argv.slice(2).map(Number);
const sizes = [0, 1, 125, 126, 65535, 65536, 1000000];

function connect() {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(`ws://127.0.0.1:${port}/ws`);
    socket.once('open', () => resolve(socket));
    socket.once('error', reject);
  });
}

const next = (socket, event) => new Promise((resolve) => { socket.once(event, (...args) => resolve(args)); });

async function echo(socket) {
  let bytes = 0;
  for (let n = 0; n < messages; n += 1) {
    const size = sizes[n % sizes.length];
    const binary = n % 2 === 0;
    const data = binary ? crypto.randomBytes(size) : crypto.randomBytes(size).toString('base64').slice(0, size);
    socket.send(data);
    const [back, isBinary] = await next(socket, 'message');
    assert.strictEqual(isBinary, binary);
    assert.ok(binary ? back.equals(data) : back.toString() === data, `message ${n} came back different`);
    bytes += size;
  }
  return bytes;
}

async function main() {
  const sockets = await Promise.all(Array.from({ length: 8 }, connect));
  const bytes = (await Promise.all(sockets.map(echo))).reduce((sum, part) => sum + part, 0);
  const pong = next(sockets[0], 'pong');
  sockets[0].ping('are you there');
  assert.strictEqual((await pong)[0].toString(), 'are you there');
  // Either side may close, and the other one learns the code.
  const ended = sockets.map((socket) => next(socket, 'close'));
  sockets.forEach((socket, n) => (n % 2 === 0 ? socket.close(1000, 'done') : socket.send('close me')));
  const codes = (await Promise.all(ended)).map(([code]) => code);
  assert.deepStrictEqual(codes, sockets.map((_, n) => (n % 2 === 0 ? 1000 : 4001)));
  console.log(`${sockets.length * messages} messages, ${(bytes / 1e6).toFixed(1)} MB each way`);
}

main().catch((error) => { console.log(error.message); process.exit(1); });
