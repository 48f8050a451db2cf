"""Runs LocalStack on loopback only.

Its web server ignores the address in GATEWAY_LISTEN and listens on every interface: that
would expose the emulator, and take the port on the machines' gateway address as well.
"""

from twisted.internet import endpoints


class LoopbackEndpoint(endpoints.TCP4ServerEndpoint):
    def __init__(self, reactor, port, backlog=50, interface="127.0.0.1"):
        super().__init__(reactor, port, backlog, interface)


endpoints.TCP4ServerEndpoint = LoopbackEndpoint

from localstack.runtime.main import main  # noqa: E402

main()
