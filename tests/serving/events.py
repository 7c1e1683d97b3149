"""Events as AWS documents them: of a REST API, an HTTP API, a load balancer, a queue and a stream."""

from __future__ import annotations

import base64
from typing import Any


def rest(body: str | None, path: str = "/v1/likes/score", method: str = "POST", **changes: Any) -> dict[str, Any]:
    """API Gateway's payload format 1.0, of a method `ANY /{proxy+}` behind the stage `prod`."""
    return {
        "resource": "/{proxy+}",
        "path": path,
        "httpMethod": method,
        "headers": {"Content-Type": "application/json", "Host": "70ixmpl4fl.execute-api.us-east-2.amazonaws.com"},
        "multiValueHeaders": {
            "Content-Type": ["application/json"],
            "Host": ["70ixmpl4fl.execute-api.us-east-2.amazonaws.com"],
        },
        "queryStringParameters": None,
        "multiValueQueryStringParameters": None,
        "pathParameters": {"proxy": path.removeprefix("/")} if path != "/" else None,
        "stageVariables": None,
        "requestContext": {
            "resourceId": "2gxmpl",
            "resourcePath": "/{proxy+}",
            "httpMethod": method,
            "extendedRequestId": "JJbxmplHYosFVYQ=",
            "requestTime": "10/Mar/2020:00:03:59 +0000",
            "path": f"/prod{path}",
            "accountId": "123456789012",
            "protocol": "HTTP/1.1",
            "stage": "prod",
            "domainPrefix": "70ixmpl4fl",
            "requestTimeEpoch": 1583798639428,
            "requestId": "77375676-xmpl-4b79-853a-f982474efe18",
            "identity": {"sourceIp": "52.255.255.12", "userAgent": "curl", "user": None},
            "domainName": "70ixmpl4fl.execute-api.us-east-2.amazonaws.com",
            "apiId": "70ixmpl4fl",
        },
        "body": body,
        "isBase64Encoded": False,
        **changes,
    }


def http(body: str | None, path: str = "/v1/likes/score", method: str = "POST", **changes: Any) -> dict[str, Any]:
    """Payload format 2.0, of an HTTP API's route `$default`; a function URL's is the same."""
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": "",
        "cookies": ["cookie1", "cookie2"],
        "headers": {"content-type": "application/json", "x-forwarded-for": "205.255.255.176"},
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "r3pmxmplak",
            "domainName": "r3pmxmplak.execute-api.us-east-2.amazonaws.com",
            "domainPrefix": "r3pmxmplak",
            "http": {
                "method": method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": "205.255.255.176",
                "userAgent": "curl",
            },
            "requestId": "JKJaXmPLvHcESHA=",
            "routeKey": "$default",
            "stage": "$default",
            "time": "10/Mar/2020:05:16:23 +0000",
            "timeEpoch": 1583817383220,
        },
        **({} if body is None else {"body": body}),
        "isBase64Encoded": False,
        **changes,
    }


def balancer(body: str, path: str = "/v1/likes/score", *, several: bool = False, **changes: Any) -> dict[str, Any]:
    """Of an Application Load Balancer; `several`: its target group has multi-value headers on."""
    headers = {"content-type": "application/json", "x-forwarded-for": "10.0.0.1, 72.12.164.125", "x-api-key": "none"}
    named: dict[str, Any] = {"headers": headers, "queryStringParameters": {}}
    if several:
        named = {
            "multiValueHeaders": {name: [value] for name, value in headers.items()},
            "multiValueQueryStringParameters": {},
        }
    arn = "arn:aws:elasticloadbalancing:us-east-2:123456789012:targetgroup/lambda-279XGJDqGZ5rsrHC2Fjr/49e9d65c45c6791a"
    return {
        "requestContext": {"elb": {"targetGroupArn": arn}},
        "httpMethod": "POST",
        "path": path,
        **named,
        "body": body,
        "isBase64Encoded": False,
        **changes,
    }


def queue(bodies: dict[str, str], name: str = "my-queue", **attributes: Any) -> dict[str, Any]:
    """A batch of a queue's messages, by their ids."""
    return {
        "Records": [
            {
                "messageId": message,
                "receiptHandle": "AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a...",
                "body": body,
                "attributes": {
                    "ApproximateReceiveCount": "1",
                    "SentTimestamp": "1545082649183",
                    "SenderId": "AIDAIENQZJOLO23YVJ4VO",
                    "ApproximateFirstReceiveTimestamp": "1545082649185",
                },
                "messageAttributes": attributes,
                "md5OfBody": "098f6bcd4621d373cade4e832627b4f6",
                "eventSource": "aws:sqs",
                "eventSourceARN": f"arn:aws:sqs:us-east-2:123456789012:{name}",
                "awsRegion": "us-east-2",
            }
            for message, body in bodies.items()
        ]
    }


def stream(bodies: dict[str, bytes]) -> dict[str, Any]:
    """A batch of a stream's records, by their sequence numbers."""
    return {
        "Records": [
            {
                "kinesis": {
                    "kinesisSchemaVersion": "1.0",
                    "partitionKey": "1",
                    "sequenceNumber": number,
                    "data": base64.b64encode(body).decode(),
                    "approximateArrivalTimestamp": 1545084650.987,
                },
                "eventSource": "aws:kinesis",
                "eventVersion": "1.0",
                "eventID": f"shardId-000000000006:{number}",
                "eventName": "aws:kinesis:record",
                "invokeIdentityArn": "arn:aws:iam::123456789012:role/lambda-role",
                "awsRegion": "us-east-2",
                "eventSourceARN": "arn:aws:kinesis:us-east-2:123456789012:stream/lambda-stream",
            }
            for number, body in bodies.items()
        ]
    }
