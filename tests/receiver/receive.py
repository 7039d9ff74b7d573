"""Keeps the telemetry it is sent, by oteltest: says its port, and all it has as one line of JSON for each line it reads."""

import base64
import json
import logging
import sys

import grpc
from oteltest.sink import GrpcSink
from oteltest.sink.handler import AccumulatingHandler


def on_loopback():
    """oteltest would listen on every address; and the port is the system's to choose."""
    made, ports = grpc.server, []

    def server(*arguments, **options):
        new = made(*arguments, **options)
        add = new.add_insecure_port
        new.add_insecure_port = lambda _address: ports.append(add("127.0.0.1:0"))
        return new

    grpc.server = server
    return ports


def hexadecimal(value, key=""):
    """Ids as everyone writes them; protobuf's JSON has base64."""
    if isinstance(value, dict):
        return {key: hexadecimal(inner, key) for key, inner in value.items()}
    if isinstance(value, list):
        return [hexadecimal(inner, key) for inner in value]
    if key in ("traceId", "spanId", "parentSpanId"):
        return base64.b64decode(value).hex()
    return value


ports = on_loopback()
handler = AccumulatingHandler()
sink = GrpcSink(handler, logging.getLogger("sink"))
sink.start()
print(ports[0], flush=True)
for _ in sys.stdin:
    print(json.dumps(hexadecimal(json.loads(handler.telemetry_to_json()))), flush=True)
sink.stop()
