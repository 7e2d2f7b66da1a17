"""The same classes with every setting, by the names that users of the older package know. Argument: a free port."""

import sys

from easyremote import Client, ComputeNode, Server

port = int(sys.argv[1])
Server(port=port).start_background()
node = ComputeNode(f"localhost:{port}", node_id="gpu-a")


@node.register(load_balancing=True)
def infer(x):
    return x * 2


node.serve()
client = Client(f"localhost:{port}")
print(client.call("infer", 21), client.call_node("gpu-a", "infer", 1), client.list_nodes()[0]["node_id"])
