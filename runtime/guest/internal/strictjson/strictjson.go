// Package strictjson decodes JSON that somebody else wrote: one value, bounded, and with nothing in it
// that encoding/json would pass over in silence (unknown keys, repeated keys, keys in another case, text
// behind the value).
package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// Limits bounds what Decode takes.
type Limits struct {
	// Bytes is the longest text.
	Bytes int
	// Depth is how deep arrays and objects may nest.
	Depth int
}

// Decode reads the single JSON value in data into target. Keys are matched as they are spelled: every key
// must consist of a-z, 0-9, "_" and "-", which is what all of our own tags do, because encoding/json
// otherwise takes "Key" and even "\u212aey" for "key".
func Decode(data []byte, limits Limits, target any) error {
	if len(data) > limits.Bytes {
		return fmt.Errorf("%d bytes, more than the %d that are allowed", len(data), limits.Bytes)
	}
	if !utf8.Valid(data) {
		return errors.New("not UTF-8")
	}
	scan := scanner{decoder: json.NewDecoder(bytes.NewReader(data)), depth: limits.Depth}
	scan.decoder.UseNumber()
	if err := scan.value(0); err != nil {
		return located(data, scan.decoder.InputOffset(), err)
	}
	if _, err := scan.decoder.Token(); err != io.EOF {
		return located(data, scan.decoder.InputOffset(), errors.New("there is more text behind the value"))
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(target); err != nil {
		return located(data, decoder.InputOffset(), err)
	}
	return nil
}

// located adds line and column, which an offset alone does not give a reader.
func located(data []byte, offset int64, err error) error {
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		err = fmt.Errorf("%q is a JSON %s, and must be a %s", wrong.Field, wrong.Value, wrong.Type)
		offset = wrong.Offset
	}
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		offset = syntax.Offset
	}
	before := data[:min(int(offset), len(data))]
	line := bytes.Count(before, []byte{'\n'}) + 1
	column := len(before) - bytes.LastIndexByte(before, '\n')
	return fmt.Errorf("line %d, column %d: %w", line, column, err)
}

type scanner struct {
	decoder *json.Decoder
	depth   int
}

func (s scanner) value(level int) error {
	token, err := s.token()
	if err != nil {
		return err
	}
	opening, isDelim := token.(json.Delim)
	if !isDelim {
		return nil
	}
	if level >= s.depth {
		return fmt.Errorf("nested deeper than the %d levels that are allowed", s.depth)
	}
	if opening == '{' {
		err = s.members(level)
	} else {
		err = s.elements(level)
	}
	if err != nil {
		return err
	}
	_, err = s.token() // the closing bracket
	return err
}

// token is the next token; that there is none is an error here.
func (s scanner) token() (json.Token, error) {
	token, err := s.decoder.Token()
	if err == io.EOF {
		return nil, io.ErrUnexpectedEOF
	}
	return token, err
}

func (s scanner) members(level int) error {
	seen := map[string]bool{}
	for s.decoder.More() {
		token, err := s.token()
		if err != nil {
			return err
		}
		key, _ := token.(string)
		if !isPlainKey(key) {
			return fmt.Errorf("the key %q is unknown: keys consist of a-z, 0-9, _ and -", key)
		}
		if seen[key] {
			return fmt.Errorf("the key %q is there twice", key)
		}
		seen[key] = true
		if err := s.value(level + 1); err != nil {
			return err
		}
	}
	return nil
}

func (s scanner) elements(level int) error {
	for s.decoder.More() {
		if err := s.value(level + 1); err != nil {
			return err
		}
	}
	return nil
}

func isPlainKey(key string) bool {
	for _, char := range []byte(key) {
		if !(char >= 'a' && char <= 'z' || char >= '0' && char <= '9' || char == '_' || char == '-') {
			return false
		}
	}
	return key != "" && len(key) <= 64
}
