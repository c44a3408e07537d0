"""Platforms: what an image needs to run as a trust domain in a cloud. Apply one inside of a profile."""

from tdx.platforms.azure import AzurePlatform as AzurePlatform
from tdx.platforms.gcp import GcpPlatform as GcpPlatform
