// POSTs with pauses about as long as a server's keep-alive timeout: idle_race.js PORT SECONDS TIMEOUT. Whoever uses a connection that
// the server is just closing loses one, and a POST cannot be sent twice. One line about it, exit 1 if one was lost.
'use strict';
const http = require('http');

const [port, seconds, timeout] = process.argv.slice(2).map(Number);
const until = Date.now() + seconds * 1000;
const statuses = {};

function post() {
  return new Promise((resolve) => {
    const options = { port, method: 'POST', path: '/sink', agent: false };
    const request = http.request(options, (response) => {
      response.resume();
      response.on('end', () => resolve(response.statusCode));
    });
    request.on('error', (error) => resolve(error.code));
    request.end('x');
  });
}

async function chain() {
  for (;;) {
    const status = await post();
    statuses[status] = (statuses[status] || 0) + 1;
    const pause = (timeout - 1.3 + Math.random() * 2.6) * 1000;
    if (Date.now() + pause > until) return;
    await new Promise((resolve) => { setTimeout(resolve, pause); });
  }
}

Promise.all(Array.from({ length: 100 }, chain)).then(() => {
  console.log(Object.entries(statuses).map(([status, count]) => `${count} x ${status}`).join(', '));
  process.exit(Object.keys(statuses).every((status) => status === '200') ? 0 : 1);
});
