#!/usr/bin/env ruby
# frozen_string_literal: true

# A worker in Ruby. Start it with:  rgunicorn --exec docs/examples/pipe_worker.rb
require "digest"
require "socket"

REQUEST, RESPONSE, BODY, ABORT, REFUSED, READY, DRAIN = 1, 2, 3, 4, 6, 0x10, 0x12
END_FLAG = 1

# Returns status, fields, and the body: a string, or something with `each` whose strings are sent one by one.
def app(variables, body)
  text = { "Content-Type" => "text/plain" }
  case variables["PATH_INFO"]
  when "/" then ["200 OK", text, "Hello from Ruby\n"]
  when "/echo" then ["200 OK", { "X-Length" => body.bytesize, "X-SHA256" => Digest::SHA256.hexdigest(body) }, body]
  when "/big" then ["200 OK", text, "x" * Integer(variables["QUERY_STRING"].delete_prefix("n="))]
  when "/sse" then ["200 OK", { "Content-Type" => "text/event-stream" }, (0...5).lazy.map { |n| "data: #{n}\n\n" }]
  when "/broken" then ["200 OK", text, ["half of it", nil].lazy.map { |part| part or raise "broken on purpose" }]
  when "/vars" then ["200 OK", text, variables.sort.map { |name, value| "#{name}=#{value}\n" }.join]
  else ["404 Not Found", text, "Not here\n"]
  end
end

def read_exactly(length)
  data = CHANNEL.read(length)
  exit(0) if data.nil? || data.bytesize < length # The channel has ended: so has rgunicorn.
  data
end

def read_frame
  kind, flags, id, length = read_exactly(8).unpack("CCnN")
  [kind, flags, id, length.zero? ? "" : read_exactly(length)]
end

def send_frame(kind, flags, id, payload = "")
  CHANNEL.write([kind, flags, id, payload.bytesize].pack("CCnN") + payload.b)
end

def answer(id, variables, body)
  begun = false
  status, fields, body = app(variables, body)
  head = [status, *fields.to_a.flatten].join("\0").b
  head = [head.bytesize].pack("N") + head
  begun = true
  return send_frame(RESPONSE, END_FLAG, id, head + body.b) if body.is_a?(String)

  send_frame(RESPONSE, 0, id, head)
  body.each { |part| send_frame(BODY, 0, id, part) }
  send_frame(BODY, END_FLAG, id)
rescue Errno::EPIPE, Errno::ECONNRESET
  exit(0)
rescue StandardError => e
  warn "#{variables["PATH_INFO"]}: #{e.message}"
  return send_frame(ABORT, 0, id) if begun

  head = "500 Internal Server Error\0Content-Type\0text/plain"
  send_frame(RESPONSE, END_FLAG, id, "#{[head.bytesize].pack("N")}#{head}The app failed\n")
end

fd = ENV["RGUNICORN_FD"] or abort "start me with: rgunicorn --exec #{$PROGRAM_NAME}"
CHANNEL = UNIXSocket.for_fd(Integer(fd))
CHANNEL.sync = true
send_frame(READY, 0, 0, [1].pack("n"))
loop do
  kind, flags, id, payload = read_frame
  break if kind == DRAIN
  next if kind != REQUEST # An ABORT that came too late, or a frame of a later version.

  size = payload.unpack1("N")
  pieces = payload.byteslice(4, size).split("\0", -1)
  body = payload.byteslice(4 + size, payload.bytesize)
  until flags & END_FLAG != 0 || kind == ABORT
    kind, more_flags, _, payload = read_frame
    body, flags = body + payload, more_flags if kind == BODY
  end
  kind == ABORT ? send_frame(REFUSED, 0, id) : answer(id, pieces.each_slice(2).reject { |pair| pair.size < 2 }.to_h, body)
end
