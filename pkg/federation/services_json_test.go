package federation

import "encoding/json"

func typeOf(resource string) (version, kind string) {
	switch resource {
	case "endpointslices":
		return "discovery.k8s.io/v1", "EndpointSlice"
	case "endpoints":
		return "v1", "Endpoints"
	case "configmaps":
		return "v1", "ConfigMap"
	}
	return "v1", "Service"
}

func mustJSON(x any) []byte {
	b, err := json.Marshal(x)
	if err != nil {
		panic(err)
	}
	return b
}

func copied(o map[string]any) map[string]any {
	next := map[string]any{}
	if err := json.Unmarshal(mustJSON(o), &next); err != nil {
		panic(err)
	}
	return next
}

func metaOf(o map[string]any) map[string]any {
	m, _ := o["metadata"].(map[string]any)
	return m
}

func labelsOf(o map[string]any) map[string]string {
	all := map[string]string{}
	found, _ := metaOf(o)["labels"].(map[string]any)
	for k, v := range found {
		all[k], _ = v.(string)
	}
	return all
}

func conditionsOf(o map[string]any) []map[string]any {
	status, _ := o["status"].(map[string]any)
	list, _ := status["conditions"].([]any)
	var all []map[string]any
	for _, c := range list {
		if m, ok := c.(map[string]any); ok {
			all = append(all, m)
		}
	}
	return all
}
