// Loaded before a server by `node --require`: neither of the Kinesis servers can be told an address, and both would listen
// on all of them. Here each port is bound to loopback, whatever the server asks for.
const net = require('net')

const listen = net.Server.prototype.listen
net.Server.prototype.listen = function (...given) {
  const callback = given.find((argument) => typeof argument === 'function')
  const first = given[0]
  const asked = first !== null && typeof first === 'object' ? first : { port: Number(first) }
  return listen.call(this, { ...asked, host: '127.0.0.1' }, ...(callback ? [callback] : []))
}
