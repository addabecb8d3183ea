"""The samples of both documents, run as they stand: only host, ids, key and URL are filled in."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import requests
from tests.blackbox.receiver import Receipt, Receiver
from tests.blackbox.server import Server, Tenant
from tests.blackbox.test_publish import verify

APPLIVERY_BODY = """{"type": "webhook", "events": {"buildCreated": true, "buildProcessed": true,
"feedbackCreated": true, "certificateWillExpire": true}, "description": "string",
"setup": {"webhook": {"url": "URL"}}}"""

HOOKSTREAM_BODY = '{"name": "string", "channel_type": "webhook", "config": {"url": "URL"}}'

FETCH = """
const response = await fetch(process.env.TARGET, {
  method: "POST",
  headers: {
    "Authorization": `Bearer ${process.env.KEY}`,
    "Content-Type": "application/json"
  },
  body: JSON.stringify(JSON.parse(process.env.BODY))
});
const data = await response.json();
console.log(JSON.stringify([response.status, data]));
"""

GO = """
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

func main() {
	req, _ := http.NewRequest("POST", os.Getenv("TARGET"), strings.NewReader(os.Getenv("BODY")))
	req.Header.Set("Authorization", "Bearer "+os.Getenv("KEY"))
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		panic(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	fmt.Printf("[%d, %s]", resp.StatusCode, body)
}
"""

BEARER, API_KEY = "Authorization", "X-API-Key"

Answer = tuple[int, Any]


def tool(name: str) -> str:
    """Where a program is; without it the test is skipped loudly. CI installs none of them, so
    that it is no failure there either."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} IS NOT INSTALLED: its samples are not tested")
    return found


def run(command: list[str], *, url: str, key: str, body: str) -> str:
    environment = {"TARGET": url, "KEY": key, "BODY": body, "NO_PROXY": "*"}
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def by_curl(url: str, key: str, body: str, header: str = BEARER) -> Answer:
    credential = "Authorization: Bearer $KEY" if header == BEARER else "X-API-Key: $KEY"
    line = (
        f'curl -X POST "$TARGET" -H "{credential}" -H "Content-Type: application/json" -d "$BODY" '
        "-s -w ' %{http_code}'"
    )
    tool("curl")
    answer, _, status = run(["sh", "-c", line], url=url, key=key, body=body).rpartition(" ")
    return int(status), json.loads(answer)


def by_requests(url: str, key: str, body: str, header: str = BEARER) -> Answer:
    headers = {header: f"Bearer {key}" if header == BEARER else key}
    response = requests.post(url, headers=headers, json=json.loads(body), timeout=30)
    return response.status_code, response.json()


def by_fetch(url: str, key: str, body: str, header: str = BEARER) -> Answer:
    sample = FETCH
    if header != BEARER:
        sample = with_api_key(FETCH, '"Authorization": `Bearer ${process.env.KEY}`',
                              '"X-API-Key": process.env.KEY')  # fmt: skip
    command = [tool("node"), "--input-type=module", "-e", sample]
    status, data = json.loads(run(command, url=url, key=key, body=body))
    return status, data


def with_api_key(sample: str, bearer: str, api_key: str) -> str:
    """The sample with the other of the two headers for its key."""
    assert bearer in sample
    return sample.replace(bearer, api_key)


CLIENTS = (by_curl, by_requests, by_fetch)


@pytest.fixture
def platform(service: Server, request: pytest.FixtureRequest) -> Tenant:
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")
    return service.tenant(name[-64:].strip("-"), projects=["app"])


def published(platform: Tenant, receiver: Receiver) -> tuple[Receipt, Any]:
    event = platform.publish("build.created", {"build": 1}, project="app")
    assert event["deliveries"] == 1, event
    (receipt,) = receiver.wait(1)
    return receipt, event


@pytest.mark.parametrize("client", CLIENTS)
def test_applivery_sample(platform: Tenant, receiver: Receiver, client: Any) -> None:
    project = platform.projects["app"]
    path = f"/v1/organizations/{platform.organization}/apps/{project}/notifications"
    body = APPLIVERY_BODY.replace("URL", receiver.url())
    status, answer = client(platform.server.url + path, platform.key, body)
    assert status == 200, answer
    assert answer["status"] is True
    data = answer["data"]
    assert data["organization"] == platform.organization
    assert data["application"] == project
    assert data["type"] == "webhook"
    assert data["description"] == "string"
    assert data["config"]["webhook"]["url"] == receiver.url()
    assert data["events"] == dict.fromkeys(
        ("buildCreated", "buildProcessed", "feedbackCreated", "certificateWillExpire"), True
    )
    receipt, event = published(platform, receiver)
    verify(receipt, data["config"]["webhook"]["token"])
    sent = receipt.json()
    assert (sent["action"], sent["id"], sent["data"]) == (
        "build_created",
        event["id"],
        {"build": 1},
    )
    assert (sent["organization"], sent["application"]) == (platform.organization, project)


def check_hookstream(
    platform: Tenant, receiver: Receiver, status: int, answer: Mapping[str, Any]
) -> None:
    assert status == 201, answer
    channel = answer["channel"]
    assert channel["name"] == "string"
    assert channel["channel_type"] == channel["type"] == "webhook"
    assert json.loads(channel["config"]) == {"url": receiver.url()}
    assert channel["enabled"] == 1
    assert channel["env_id"] == platform.projects["app"]
    assert channel["org_id"] == platform.organization
    receipt, event = published(platform, receiver)
    secret = platform.get(f"/channels/{channel['id']}/secret")["secret"]
    verify(receipt, secret)
    sent = receipt.json()
    assert (sent["event"], sent["id"], sent["data"]) == ("build.created", event["id"], {"build": 1})


def hookstream_key(platform: Tenant) -> str:
    """A key as a customer of hookstream has them, made by its own call."""
    made = platform.server.call("POST", "/v1/auth/api-keys", {"name": "k"}, token=platform.key)
    assert made.status == 201, made
    key: str = made.json()["key"]
    assert re.fullmatch("hs_live_[0-9a-f]{64}", key)
    return key


@pytest.mark.parametrize("header", [BEARER, API_KEY])
@pytest.mark.parametrize("client", CLIENTS)
def test_hookstream_sample(platform: Tenant, receiver: Receiver, client: Any, header: str) -> None:
    url = f"{platform.server.url}/v1/notification-channels"
    body = HOOKSTREAM_BODY.replace("URL", receiver.url())
    answer = client(url, hookstream_key(platform), body, header)
    check_hookstream(platform, receiver, *answer)


@pytest.mark.long
@pytest.mark.parametrize("header", [BEARER, API_KEY])
def test_hookstream_sample_in_go(
    platform: Tenant, receiver: Receiver, tmp_path: Path, header: str
) -> None:
    sample = GO
    if header != BEARER:
        sample = with_api_key(GO, '"Authorization", "Bearer "+os', '"X-API-Key", os')
    source = tmp_path / "main.go"
    source.write_text(sample)
    body = HOOKSTREAM_BODY.replace("URL", receiver.url())
    url = f"{platform.server.url}/v1/notification-channels"
    key = hookstream_key(platform)
    said = run([tool("go"), "run", str(source)], url=url, key=key, body=body)
    check_hookstream(platform, receiver, *json.loads(said))
