"""Views that the test adds to a project made by `django-admin startproject`."""

import os

from django.contrib import admin
from django.http import FileResponse, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt


def index(request):
    return HttpResponse("django\n")


def stream(request):
    return StreamingHttpResponse(("part %d\n" % number for number in range(5)), content_type="text/plain")


@csrf_exempt
def upload(request):
    data = request.FILES["file"].read()
    return JsonResponse({"name": request.FILES["file"].name, "size": len(data), "total": sum(data)})


def give_file(request):
    return FileResponse(open(os.path.abspath(__file__), "rb"))


def facts(request):
    return JsonResponse({"scheme": request.scheme, "host": request.get_host(), "path": request.path,
                         "secure": request.is_secure(), "query": request.GET.dict()})


def fail(request):
    raise ValueError("asked to fail")


urlpatterns = [
    path("", index),
    path("admin/", admin.site.urls),
    path("stream", stream),
    path("upload", upload),
    path("file", give_file),
    path("facts/\u00fcml\u00e4ut", facts),
    path("facts", facts),
    path("fail", fail),
]
