// Drives a server through ioredis, called by tests/drivers.rs with the port as its only argument. Prints "all good" at
// the end; any surprise is an exception.
'use strict';
const assert = require('node:assert/strict');
const Redis = require('ioredis');

async function main(port) {
  const options = { host: '127.0.0.1', port, db: 1, connectionName: 'one' };
  const r = new Redis(options);
  // Its ready check reads INFO; what it says about itself goes through CLIENT SETINFO.
  await new Promise((resolve, reject) => r.once('ready', resolve).once('error', reject));
  assert.equal(await r.flushall(), 'OK');
  assert.equal(await r.client('GETNAME'), 'one');
  assert.match(await r.client('INFO'), /lib-name=ioredis/);

  assert.equal(await r.set('k', 'v', 'EX', 100, 'NX'), 'OK');
  assert.equal(await r.set('k', 'w', 'NX'), null);
  assert.equal(await r.get('k'), 'v');
  assert.equal(await r.ttl('k'), 100);
  const bytes = Buffer.from([0, 255, 13, 10, 128]);
  await r.set('bytes', bytes);
  assert.deepEqual(await r.getBuffer('bytes'), bytes);
  assert.equal(await r.incrby('n', 41), 41);
  assert.equal(await r.mset(Object.fromEntries(Array.from({ length: 500 }, (_, i) => [`key:${i}`, i]))), 'OK');
  assert.deepEqual(await r.mget('key:7', 'none', 'key:499'), ['7', null, '499']);
  await assert.rejects(r.incr('k'), /not an integer/);
  await assert.rejects(r.call('NOSUCHCOMMAND'), /unknown command/);

  // A pipeline, a transaction, one that a watched key stops.
  const many = r.pipeline();
  for (let i = 0; i < 1000; i++) many.incr('counter');
  assert.deepEqual((await many.exec()).at(-1), [null, 1000]);
  assert.deepEqual(await r.multi().incr('n').get('k').exec(), [[null, 42], [null, 'v']]);
  const other = r.duplicate();
  await r.watch('n');
  await other.set('n', 1);
  assert.equal(await r.multi().incr('n').exec(), null);
  assert.equal(await r.get('n'), '1');

  const found = new Set();
  for await (const keys of r.scanStream({ match: 'key:*', count: 50 })) keys.forEach((key) => found.add(key));
  assert.equal(found.size, 500);

  // Commands sent while the connection is gone wait for the next one.
  await other.client('KILL', 'ID', await r.client('ID'));
  assert.equal(await r.get('k'), 'v');

  // Without waiting for replies, and with all commands of a tick as one pipeline.
  const auto = new Redis({ ...options, enableAutoPipelining: true });
  const replies = await Promise.all(Array.from({ length: 200 }, (_, i) => auto.get(`key:${i}`)));
  assert.deepEqual(replies, Array.from({ length: 200 }, (_, i) => String(i)));
  await Promise.all([r.quit(), other.quit(), auto.quit()]);
  console.log('all good');
}

// A reply that never comes must not hang the test.
setTimeout(() => process.exit(2), 100_000).unref();
main(Number(process.argv[2])).catch((error) => {
  console.error(error);
  process.exit(1);
});
