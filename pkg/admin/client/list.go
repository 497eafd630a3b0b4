package client

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net/url"

	"github.com/overland-net/overland/pkg/admin/api"
)

// List is a list of endpoints that is read as it arrives. It is used by one
// goroutine.
type List struct {
	// Head is all of the list but its Items, which are nil.
	Head api.EndpointList

	client  *Client
	body    io.ReadCloser
	decoder *json.Decoder
}

func (c *Client) list(ctx context.Context, path string, query url.Values) (*List, error) {
	body, err := c.open(ctx, path, query)
	if err != nil {
		return nil, err
	}
	l := &List{client: c, body: body, decoder: json.NewDecoder(body)}
	if err := l.readHead(); err != nil {
		l.Close()
		return nil, c.brokenOff(err)
	}
	return l, nil
}

// readHead reads up to the first item: the agent writes items last.
func (l *List) readHead() error {
	if err := l.expect(json.Delim('{')); err != nil {
		return err
	}
	fields := make(map[string]json.RawMessage)
	for {
		name, err := l.decoder.Token()
		if err != nil {
			return err
		}
		key, ok := name.(string)
		if !ok {
			return fmt.Errorf("%v where a field of a list was expected", name)
		}
		if key == "items" {
			break
		}
		var value json.RawMessage
		if err := l.decoder.Decode(&value); err != nil {
			return err
		}
		fields[key] = value
	}
	text, err := json.Marshal(fields)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &l.Head); err != nil {
		return err
	}
	return l.expect(json.Delim('['))
}

func (l *List) expect(delimiter json.Delim) error {
	token, err := l.decoder.Token()
	if err == nil && token != delimiter {
		err = fmt.Errorf("%v where %v was expected", token, delimiter)
	}
	return err
}

// Items gives the endpoints, once. An error ends them: what came before it is
// then not the whole list.
func (l *List) Items() iter.Seq2[*api.Endpoint, error] {
	return func(yield func(*api.Endpoint, error) bool) {
		for l.decoder.More() {
			e := new(api.Endpoint)
			if err := l.decoder.Decode(e); err != nil {
				yield(nil, l.client.brokenOff(err))
				return
			}
			if !yield(e, nil) {
				return
			}
		}
		for _, d := range []json.Delim{']', '}'} {
			if err := l.expect(d); err != nil {
				yield(nil, l.client.brokenOff(err))
				return
			}
		}
	}
}

// Close ends the list; what has not been read is not sent any more.
func (l *List) Close() { _ = l.body.Close() }
