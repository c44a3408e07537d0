package main

import (
	"context"
	"log/slog"

	"tdxvm/guest/internal/config"
	"tdxvm/guest/internal/disk"
	"tdxvm/guest/internal/fault"
	"tdxvm/guest/internal/keys"
	"tdxvm/guest/internal/logging"
	"tdxvm/guest/internal/secret"
	"tdxvm/guest/internal/tpm"
)

func runKey(ctx context.Context, conf *config.Config, log *slog.Logger) error {
	if err := secret.Harden(); err != nil {
		return err
	}
	source := &keys.Source{Log: log, Disks: disk.NewSystem(log), OpenTPM: tpm.Open}
	return source.Run(ctx, conf)
}

func runDisk(ctx context.Context, conf *config.Config, log *slog.Logger) error {
	if err := secret.Harden(); err != nil {
		return err
	}
	return disk.NewSystem(log).Run(ctx, conf)
}

// runInit runs the steps that the configuration lists, and stops at the first that fails: what comes behind
// relies on it.
func runInit(ctx context.Context, conf *config.Config, log *slog.Logger) error {
	steps := map[string]runner{"key": runKey, "disk": runDisk, "secrets": runSecrets}
	for _, name := range conf.Init {
		if err := steps[name](ctx, conf, logging.For(log, name)); err != nil {
			return fault.Wrap(err, "", "step %q", name)
		}
	}
	log.Info("all steps are done", "steps", len(conf.Init))
	return nil
}
