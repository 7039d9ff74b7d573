"""The part of check-image.sh that runs in namespaces of its own: try-image.py FOLDER USER PROGRAM. FOLDER holds the image's file system
(root), the same with one more authority (known), and that authority with its key."""

import ctypes
import errno
import http.server
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

FOLDER, USER, PROGRAM = sys.argv[1:]
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 24, 38
CAPABILITIES = 64
PATIENCE = 60
LIBC = ctypes.CDLL(None, use_errno=True)


def main():
    for root in ("root", "known"):
        mount("--bind", f"{FOLDER}/{root}", f"{FOLDER}/{root}")
        mount("-o", "remount,bind,ro,nosuid,nodev", f"{FOLDER}/{root}")
    it_runs()
    nothing_can_be_written_and_no_shell_starts()
    it_trusts_the_authorities_in_its_file_and_no_others()
    it_serves_without_rights()


def it_runs():
    said = run("root", "--version")
    hold(said.returncode == 0, f"it does not run: {said.stderr}")
    ok(f"it runs: {said.stdout.strip()}")


def nothing_can_be_written_and_no_shell_starts():
    try:
        open(f"{FOLDER}/root/new", "w").close()
        fail("its file system can be written to")
    except OSError as error:
        hold(error.errno == errno.EROFS, f"writing fails for another reason: {error}")
    # `bulk` would keep what comes by a pipe in a file.
    said = run("root", "bulk", "-", input="user_id\n")
    hold(said.returncode != 0 and "error: -: " in said.stderr, f"the program can write: {said.stderr}")
    for shell in ("/bin/sh", "/bin/bash", "/bin/busybox"):
        try:
            subprocess.run([shell, "-c", "true"], preexec_fn=lambda: os.chroot(f"{FOLDER}/root"), check=False)
            fail(f"{shell} starts")
        except FileNotFoundError:
            pass
    ok("its file system cannot be written to, and no shell starts")


def it_trusts_the_authorities_in_its_file_and_no_others():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Token)
    # Clients that refuse the certificate are what is asked for.
    server.handle_error = lambda *_: None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{FOLDER}/authority.pem", f"{FOLDER}/key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    settings = {**SETTINGS, "PINGONE_AUTH_PATH": f"https://127.0.0.1:{server.server_port}"}
    stranger, known = (run(root, "check", settings=settings).stdout for root in ("root", "known"))
    hold("WRONG   PingOne credential" in stranger and "certificate" in stranger, f"it trusts anybody: {stranger}")
    hold("ok      PingOne credential" in known, f"it does not know its authorities: {known}")
    ok("PingOne is trusted by the authorities in its file, and by no others")


class Token(http.server.BaseHTTPRequestHandler):
    """A token endpoint."""

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        answer = b'{"access_token": "token", "expires_in": 60}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


def it_serves_without_rights():
    port = free_port()
    arguments = ["serve", "--listen", "127.0.0.1:0", "--admin-listen", f"127.0.0.1:{port}"]
    server = subprocess.Popen([PROGRAM, *arguments], env=SETTINGS, preexec_fn=enter("root"), stderr=subprocess.PIPE, text=True)
    said = []
    threading.Thread(target=lambda: said.extend(server.stderr), daemon=True).start()
    until = time.monotonic() + PATIENCE
    while answers(port) is None:
        hold(server.poll() is None and time.monotonic() < until, f"it does not serve: {''.join(said)}")
        time.sleep(0.05)

    healthy = [run("root", "health", "--url", f"http://127.0.0.1:{port}/{page}").returncode for page in ("livez", "readyz")]
    hold(healthy == [0, 1], f"health says {healthy}")
    ok("health says that it lives, and that without Postgres it is not ready")

    status = dict(line.split(":", 1) for line in open(f"/proc/{server.pid}/status"))
    ids = {":".join(pair) for pair in zip(status["Uid"].split(), status["Gid"].split())}
    hold(ids == {USER} and "0" not in USER.split(":"), f"it runs as {ids}")
    hold(status["Groups"].split() in ([], [USER.split(":")[1]]), f"it is in groups {status['Groups']}")
    hold(status["NoNewPrivs"].strip() == "1", "it may gain privileges")
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        hold(int(status[name], 16) == 0, f"it has capabilities: {name}")
    ok(f"it runs as {USER}, without capabilities and groups")

    server.send_signal(signal.SIGTERM)
    hold(server.wait(PATIENCE) == 0, f"it did not stop well: {''.join(said)}")
    ok("SIGTERM ends it")


SETTINGS = {
    "UNBLOCK_DATABASE_URL": "postgres://nobody@127.0.0.1:1/none",
    "PINGONE_AUTH_ENVIRONMENT_ID": "abfba8f6-49eb-49f5-a5d9-80ad5c98f9f6",
    "PINGONE_CLIENT_ID": "id",
    "PINGONE_CLIENT_SECRET": "secret",
}


def run(root, *arguments, settings=None, **options):
    return subprocess.run([PROGRAM, *arguments], env=settings or {}, preexec_fn=enter(root), capture_output=True, text=True, check=False,
                          timeout=PATIENCE, **options)


def enter(root):
    """As a container engine starts a program: another root, the image's user, no capabilities and no way to any."""

    def prepare():
        os.chroot(f"{FOLDER}/{root}")
        os.chdir("/")
        for capability in range(CAPABILITIES):
            LIBC.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
        user, group = map(int, USER.split(":"))
        os.setgroups([])
        os.setgid(group)
        os.setuid(user)
        LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)

    return prepare


def answers(port):
    try:
        return urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=PATIENCE).status
    except (urllib.error.URLError, OSError):
        return None


def free_port():
    server = http.server.HTTPServer(("127.0.0.1", 0), Token)
    server.server_close()
    return server.server_port


def mount(*arguments):
    subprocess.run(["mount", *arguments], check=True)


def hold(what, otherwise):
    if not what:
        fail(otherwise)


def fail(what):
    sys.exit(f"the image: {what}")


def ok(what):
    print(f"ok  {what}", flush=True)


main()
