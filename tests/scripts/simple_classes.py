from easyremote.simple import Client, ComputeNode, Server

server = Server().start_background()
node = ComputeNode()


@node.register
def train_model(data):
    return {"model": data, "accuracy": 0.97}


node.serve()
print("the script goes on")
with Client() as client:
    print(client.call("train_model", "sample_data"))
