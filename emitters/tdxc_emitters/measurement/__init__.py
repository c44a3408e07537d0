"""The measurement manifest as it is known before a bake: ``measurement/manifest.json``."""

from tdxc_emitters.measurement.emitter import MeasurementEmitter as MeasurementEmitter
