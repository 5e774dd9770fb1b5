// Drives a server through node-redis with RESP2 and RESP3, called by tests/drivers.rs with the port as its only
// argument. Prints "all good" at the end; any surprise is an exception.
'use strict';
const assert = require('node:assert/strict');
const { createClient, RESP_TYPES, WatchError } = require('redis');

async function drive(port, RESP) {
  // With RESP3 it asks for maintenance notifications first, and has to live with the refusal.
  const options = { url: `redis://127.0.0.1:${port}/1`, name: 'one', RESP };
  const surprises = [];
  const r = await createClient(options).on('error', (error) => surprises.push(error)).connect();
  assert.equal(await r.flushAll(), 'OK');
  assert.equal(await r.clientGetName(), 'one');
  const about = await r.clientInfo();
  assert.equal(about.resp, RESP);
  assert.match(about.libName, /^node-redis/);
  assert.equal(about.db, 1);

  assert.equal(await r.set('k', 'v', { expiration: { type: 'EX', value: 100 }, condition: 'NX' }), 'OK');
  assert.equal(await r.set('k', 'w', { condition: 'NX' }), null);
  assert.equal(await r.get('k'), 'v');
  assert.equal(await r.ttl('k'), 100);
  const bytes = Buffer.from([0, 255, 13, 10, 128]);
  await r.set('bytes', bytes);
  const buffers = r.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer });
  assert.deepEqual(await buffers.get('bytes'), bytes);
  assert.equal(await r.incrBy('n', 41), 41);
  assert.equal(await r.incrByFloat('f', 0.5), '0.5');
  await r.mSet(Array.from({ length: 500 }, (_, i) => [`key:${i}`, String(i)]));
  assert.deepEqual(await r.mGet(['key:7', 'none', 'key:499']), ['7', null, '499']);
  await assert.rejects(r.incr('k'), /not an integer/);
  await assert.rejects(r.sendCommand(['NOSUCHCOMMAND']), /unknown command/);
  assert.deepEqual({ ...(await r.configGet('databases')) }, { databases: '16' });

  // All commands of a tick are a pipeline.
  const replies = await Promise.all(Array.from({ length: 1000 }, () => r.incr('counter')));
  assert.equal(replies.at(-1), 1000);
  assert.deepEqual(await r.multi().incr('n').get('k').exec(), [42, 'v']);
  const other = await r.duplicate().connect();
  await other.watch('n');
  await r.set('n', 1);
  await assert.rejects(other.multi().incr('n').exec(), WatchError);
  assert.equal(await r.get('n'), '1');

  const found = new Set();
  for await (const keys of r.scanIterator({ MATCH: 'key:*', COUNT: 50 })) keys.forEach((key) => found.add(key));
  assert.equal(found.size, 500);
  assert.deepEqual(surprises, []);

  // The connection is closed under it: it comes back, with its name and database.
  const id = await r.clientId();
  assert.equal(await other.sendCommand(['CLIENT', 'KILL', 'ID', String(id)]), 1);
  // What was on its way when the connection broke is refused; what comes after is not.
  const again = () => r.get('k').catch((error) => (error.name === 'Error' ? again() : Promise.reject(error)));
  assert.equal(await again(), 'v');
  assert.notEqual(await r.clientId(), id);
  assert.equal(await r.clientGetName(), 'one');
  await Promise.all([r.close(), other.close()]);
}

async function main(port) {
  await drive(port, 2);
  await drive(port, 3);
  console.log('all good');
}

// A reply that never comes must not hang the test.
setTimeout(() => process.exit(2), 100_000).unref();
main(Number(process.argv[2])).catch((error) => {
  console.error(error);
  process.exit(1);
});
