package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"tdxvm/guest/internal/config"
	"tdxvm/guest/internal/fault"
	"tdxvm/guest/internal/quote"
)

// maxQuoteInput bounds what `quote validate` reads.
const maxQuoteInput = 1 << 20

func issuerOf(conf *config.Config, log *slog.Logger) (quote.Issuer, error) {
	if conf.Quote == nil {
		return nil, fault.Refuse("give the recipe a quote service (Tdxs)", "the configuration has no section \"quote\"")
	}
	return quote.New(conf, log)
}

func runQuoteServe(ctx context.Context, conf *config.Config, log *slog.Logger) error {
	issuer, err := issuerOf(conf, log)
	if err != nil {
		return err
	}
	return quote.Serve(ctx, conf.Quote, issuer, log)
}

func quoteOnce(options *flag.FlagSet) runner {
	text := options.String("report-data", "", "the 64 bytes that the quote carries, in `hex`")
	return func(ctx context.Context, conf *config.Config, log *slog.Logger) error {
		data, err := hex.DecodeString(*text)
		if err != nil || len(data) != quote.ReportDataBytes {
			return fault.Refuse("give -report-data, in hexadecimal", "the report data must be %d bytes", quote.ReportDataBytes)
		}
		issuer, err := issuerOf(conf, log)
		if err != nil {
			return err
		}
		answer, err := quote.Issue(ctx, issuer, [quote.ReportDataBytes]byte(data))
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(answer)
	}
}

// expectations collects options of the form NAME=HEX.
type expectations map[string]string

func (e expectations) String() string { return "" }

func (e expectations) Set(text string) error {
	name, value, found := strings.Cut(text, "=")
	if !found {
		return fmt.Errorf("%q is not NAME=HEX", text)
	}
	e[name] = value
	return nil
}

func quoteValidate(options *flag.FlagSet) runner {
	expected := expectations{}
	options.Var(expected, "expect", "what a field must be, as `NAME=HEX`, such as mr_td or rtmr0; may be given again")
	return func(_ context.Context, _ *config.Config, _ *slog.Logger) error {
		data, err := io.ReadAll(io.LimitReader(os.Stdin, maxQuoteInput))
		if err != nil {
			return fmt.Errorf("cannot read the quote from standard input: %w", err)
		}
		verdict := quote.Validate(data, expected, time.Now())
		if err := json.NewEncoder(os.Stdout).Encode(verdict); err != nil {
			return fmt.Errorf("cannot write the verdict: %w", err)
		}
		if !verdict.Valid {
			return fault.Refuse("", "the quote is not valid: %s", verdict.Faults[0].Message)
		}
		return nil
	}
}
