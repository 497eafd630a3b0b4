package admin

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/overland-net/overland/pkg/admin/api"
)

// Whatever is asked is answered with JSON: a list, or an error that is the
// caller's.
func FuzzQueries(f *testing.F) {
	for _, seed := range [][2]string{
		{"labelSelector", "app in (redis),!x"},
		{"labelSelector", "overland.dev/cluster notin (west)"},
		{"labelSelector", "a>1"},
		{"kind", "Node"},
		{"cluster", "canada"},
		{"namespace", "shop"},
		{"expression", "has(overland.dev/kind) && a != 'b'"},
		{"expression", "!(a in {'x',}) || b starts with \"y\""},
		{"nope", ""},
	} {
		f.Add(seed[0], seed[1])
	}
	h := testServer(world()).socketHandler(http.NotFoundHandler())
	f.Fuzz(func(t *testing.T, name, value string) {
		for _, path := range []string{api.PathEndpoints, api.PathEvaluate, api.PathStatus, api.PathEndpoints + "/shop/cart-0"} {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path+"?"+url.Values{name: {value}}.Encode(), nil))
			if !json.Valid(w.Body.Bytes()) {
				t.Errorf("%s: %q is not JSON", path, w.Body)
			}
			switch w.Code {
			case http.StatusOK, http.StatusBadRequest, http.StatusNotFound:
			default:
				t.Errorf("%s: status %d: %s", path, w.Code, w.Body)
			}
		}
	})
}
