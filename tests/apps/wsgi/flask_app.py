"""A Flask app: JSON, forms, uploads, streams, cookies, errors, a file."""

import os

from flask import Flask, Response, abort, jsonify, make_response, request, send_file, stream_with_context

app = Flask(__name__)
application = app


@app.get("/")
def index():
    return "flask\n"


@app.get("/json")
def give_json():
    return jsonify(message="Hello, World!", args=request.args.to_dict(), scheme=request.scheme, base=request.base_url)


@app.post("/form")
def form():
    return jsonify(request.form.to_dict(flat=False))


@app.post("/upload")
def upload():
    data = request.files["file"].read()
    return jsonify(name=request.files["file"].filename, size=len(data), total=sum(data))


@app.post("/raw")
def raw():
    return request.get_data(), 200, {"Content-Type": request.content_type or "text/plain"}


@app.get("/stream")
def stream():
    @stream_with_context
    def parts():
        for number in range(5):
            yield "part %d of %s\n" % (number, request.path)

    return Response(parts(), mimetype="text/plain")


@app.get("/file")
def give_file():
    return send_file(os.path.abspath(__file__), conditional=True)


@app.get("/cookie")
def cookie():
    response = make_response(request.cookies.get("seen", "never"))
    response.set_cookie("seen", "once")
    response.set_cookie("other", "two")
    return response


@app.get("/missing")
def missing():
    abort(404)


@app.get("/fail")
def fail():
    raise ValueError("asked to fail")
