"""What scripts/bench serves to measure a framework: Flask answering with JSON."""

from flask import Flask, jsonify

application = Flask(__name__)


@application.route("/")
def hello():
    return jsonify(message="Hello, World!")
