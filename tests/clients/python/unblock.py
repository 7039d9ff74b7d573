#!/usr/bin/env python3
"""Unblocks one PingOne MFA device and shows the job until it is final.

Needs no generated code: the server describes itself by gRPC reflection. States, the device or the error go to stdout,
everything else to stderr. Exit codes are those of `pingone-unblock`: 0 unblocked, 1 the job failed, 2 wrong usage,
3 server not reachable, 4 not permitted, 5 still pending.
"""

import argparse
import json
import pathlib
import sys
import uuid

import grpc
from google.protobuf import descriptor_pool, json_format, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

SERVICE_CONFIG = pathlib.Path(__file__).resolve().parents[3] / "docs" / "service-config.json"
DEVICES = "pingone.device.v1.DeviceService"
JOBS = "pingone.device.v1.JobService"
FINAL = {"STATE_SUCCEEDED", "STATE_FAILED", "STATE_CANCELLED", "STATE_EXPIRED"}
EXIT_CODES = {
    grpc.StatusCode.INVALID_ARGUMENT: 2,
    grpc.StatusCode.UNAVAILABLE: 3,
    grpc.StatusCode.UNAUTHENTICATED: 4,
    grpc.StatusCode.PERMISSION_DENIED: 4,
    grpc.StatusCode.DEADLINE_EXCEEDED: 5,
}


class Server:
    """What a server says of itself, and calls made by it."""

    def __init__(self, channel):
        self.channel = channel
        self.reflection = ProtoReflectionDescriptorDatabase(channel)
        self.pool = descriptor_pool.DescriptorPool(self.reflection)

    def services(self):
        return sorted(self.reflection.get_services())

    def call(self, service, method, request, timeout):
        """The answer to a call, or the stream of answers where the method has one."""
        described = self.pool.FindServiceByName(service).FindMethodByName(method)
        make = self.channel.unary_stream if described.server_streaming else self.channel.unary_unary
        remote = make(
            f"/{service}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=message_factory.GetMessageClass(described.output_type).FromString,
        )
        message = json_format.ParseDict(request, message_factory.GetMessageClass(described.input_type)())
        return remote(message, timeout=timeout)


def state_of(job):
    """The name of the job's state; a number that this contract does not know is not understood, never success."""
    known = job.DESCRIPTOR.fields_by_name["state"].enum_type.values_by_number
    return known[job.state].name if job.state in known else f"STATE_{job.state}"


def unblock(server, arguments):
    """The job in its last seen state. Prints every state once."""
    request = {
        "deviceRef": {
            "environmentId": arguments.environment,
            "userId": arguments.user,
            "deviceId": arguments.device,
        },
        "requestId": arguments.request_id,
        "reason": arguments.reason,
        "wait": "0s",
    }
    job = server.call(DEVICES, "Unblock", request, arguments.timeout).job
    print(f"job {job.job_id}, request {arguments.request_id}", file=sys.stderr)
    seen = None
    for answer in server.call(JOBS, "WatchJob", {"jobId": job.job_id}, arguments.timeout):
        job = answer.job
        if state_of(job) != seen:
            seen = state_of(job)
            print(seen.removeprefix("STATE_"), flush=True)
    return job


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", default="127.0.0.1:50051", metavar="HOST:PORT")
    parser.add_argument("--request-id", default=str(uuid.uuid4()), help="repeat it to ask again for the same job")
    parser.add_argument("--reason", default="")
    parser.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS")
    parser.add_argument("environment")
    parser.add_argument("user")
    parser.add_argument("device")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    # Safe: every call below is idempotent, Unblock because of its request_id.
    options = [("grpc.service_config", SERVICE_CONFIG.read_text()), ("grpc.enable_http_proxy", 0)]
    try:
        with grpc.insecure_channel(arguments.server, options=options) as channel:
            grpc.channel_ready_future(channel).result(timeout=min(arguments.timeout, 10.0))
            server = Server(channel)
            print("services: " + ", ".join(server.services()), file=sys.stderr)
            job = unblock(server, arguments)
    except grpc.FutureTimeoutError:
        print(f"no gRPC server answers at {arguments.server}", file=sys.stderr)
        return 3
    except grpc.RpcError as error:
        print(f"{error.code().name}: {error.details()}", file=sys.stderr)
        return EXIT_CODES.get(error.code(), 1)
    state = state_of(job)
    if state == "STATE_SUCCEEDED":
        print(json.dumps(json_format.MessageToDict(job.device), indent=2))
        return 0
    if state in FINAL:
        print(f"{job.error.reason}: {job.error.message}")
        return 1
    return 5


if __name__ == "__main__":
    sys.exit(main())
