"""Names that code imports from Gunicorn's configuration module."""

import os

from gunicorn.errors import ConfigError
from rgunicorn import settings
from rgunicorn.settings import Setting, make_settings

validate_bool = settings.to_bool
validate_callable = settings.callable_kind
validate_class = settings.to_class
validate_dict = settings.to_dict
validate_group = settings.to_group
validate_list_string = settings.to_texts
validate_pos_int = settings.to_count
validate_post_request = settings.to_post_request
validate_string = settings.to_text
validate_string_to_addr_list = settings.to_networks
validate_string_to_list = settings.to_words
validate_user = settings.to_user

__all__ = ["Config", "ConfigError", "Setting", "get_default_config_file", "make_settings"]


class Config(settings.Config):
    """Settings with their defaults, to be changed by `set`."""

    def __init__(self, usage=None, prog=None):
        super().__init__()
        self.usage = usage
        self.prog = prog
        self.env_orig = dict(os.environ)


def get_default_config_file():
    path = os.path.join(os.path.abspath(os.getcwd()), "gunicorn.conf.py")
    return path if os.path.exists(path) else None
