"""The YAML frontend: the same declarations as the DSL's, through the same builders."""

from tdx.yaml.build import read_image as read_image
