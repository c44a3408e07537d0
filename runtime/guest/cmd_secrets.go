package main

import (
	"context"
	"log/slog"

	"tdxvm/guest/internal/config"
	"tdxvm/guest/internal/fault"
	"tdxvm/guest/internal/quote"
	"tdxvm/guest/internal/secrets"
)

func runSecrets(ctx context.Context, conf *config.Config, log *slog.Logger) error {
	if conf.Secrets == nil {
		return fault.Refuse("give the recipe a SecretDelivery", "the configuration has no section \"secrets\"")
	}
	issuer, err := quote.New(conf, log)
	if err != nil {
		return err
	}
	return secrets.Run(ctx, conf.Secrets, issuer, log)
}
