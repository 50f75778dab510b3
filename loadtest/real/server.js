// A Node server as people write it: the http module with its defaults (keep-alive timeout 5 s), and `ws` if it is installed.
// Says `port N` on standard output.
'use strict';
const http = require('http');
const crypto = require('crypto');

const routes = {
  '/who': (request, response) => response.end('node\n'),
  '/': (request, response) => response.end('home\n'),
  // Reads everything, answers with what came.
  '/sink': (request, response) => {
    const hash = crypto.createHash('sha256');
    let bytes = 0;
    request.on('data', (part) => { hash.update(part); bytes += part.length; });
    request.on('end', () => response.end(JSON.stringify({ bytes, sha256: hash.digest('hex') }) + '\n'));
  },
  // Takes about 1 MB a second.
  '/slow-sink': (request, response) => {
    let taken = 0;
    request.on('data', (part) => {
      taken += part.length;
      request.pause();
      setTimeout(() => request.resume(), part.length / 1000);
    });
    request.on('end', () => response.end(`${taken}\n`));
  },
  '/json': (request, response) => {
    response.setHeader('Content-Type', 'application/json');
    response.end(JSON.stringify({ method: request.method, headers: request.headers }) + '\n');
  },
  // In pieces, so that it is chunked.
  '/stream': (request, response) => {
    for (let n = 0; n < 1000; n += 1) response.write(`line ${n} of a thousand\n`);
    response.end();
  },
};

const server = http.createServer((request, response) => {
  response.setHeader('X-Server', 'node');
  const route = routes[request.url.split('?')[0]];
  if (route) return route(request, response);
  response.statusCode = 404;
  return response.end('nothing here\n');
});

try {
  const { WebSocketServer } = require('ws');
  new WebSocketServer({ server, path: '/ws', maxPayload: 64 << 20 }).on('connection', (socket) => {
    socket.on('message', (data, isBinary) => {
      if (!isBinary && data.toString() === 'close me') return socket.close(4001, 'as you wish');
      return socket.send(data, { binary: isBinary });
    });
  });
} catch {
  console.error('no ws: no WebSocket');
}

server.listen(0, '127.0.0.1', 4096, () => console.log(`port ${server.address().port}`));
