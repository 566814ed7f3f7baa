"""A Bottle app."""

import bottle

app = application = bottle.Bottle()


@app.get("/")
def index():
    return "bottle\n"


@app.get("/hello/<name>")
def hello(name):
    return {"hello": name, "remote": bottle.request.remote_addr}


@app.post("/upload")
def upload():
    data = bottle.request.files.get("file").file.read()
    return {"size": len(data), "total": sum(data)}


@app.get("/stream")
def stream():
    bottle.response.content_type = "text/plain"
    for number in range(3):
        yield "part %d\n" % number


@app.get("/file")
def give_file():
    name = __file__.rsplit("/", 1)
    return bottle.static_file(name[1], root=name[0])
