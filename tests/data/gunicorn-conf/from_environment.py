"""Values from the environment, files in the start directory, variables for the app."""

import os
from pathlib import Path

from recorder import rec

here = Path(__file__).resolve().parent
for line in (here / "settings.env").read_text().splitlines():
    key, _, value = line.partition("=")
    os.environ.setdefault(key, value)

wsgi_app = "recorder:app"
workers = int(os.environ.get("APP_WORKERS", "1"))
threads = os.environ.get("APP_THREADS", 1)
timeout = int(os.getenv("APP_TIMEOUT", "30"))
accesslog = str(here / "access.txt")
access_log_format = '%(m)s %(U)s %(q)s %(H)s %(s)s %(B)s "%(f)s" "%({x-note}i)s" "%({content-type}o)s" %({app.note}e)s'
pidfile = str(here / "app.pid")
chdir = str(here / "below")
proc_name = "from-environment"
raw_env = ["ONE=1", "TWO=2=two"]
forwarded_allow_ips = "*"
reload = os.environ.get("APP_RELOAD", "false").lower() == "true"

rec("evaluated", os.path.basename(os.getcwd()), workers)
