"""The monitor's words, in English and Chinese."""

from __future__ import annotations

import os
from collections.abc import Mapping

from easyremote.errors import UsageError
from easyremote.sizes import UNITS_OF_TIME, format_span

LANGUAGES = ("en", "zh")

_CATALOGUE: dict[str, tuple[str, str]] = {
    "title": ("EasyRemote monitor", "EasyRemote 监视器"),
    "gateway": ("gateway", "网关"),
    "nodes": ("Nodes", "节点"),
    "node": ("node", "节点"),
    "calls": ("Calls", "调用"),
    "call": ("call", "调用"),
    "functions": ("Functions", "函数"),
    "function": ("function", "函数"),
    "errors": ("Errors", "错误"),
    "recent errors": ("Recent errors", "最近的错误"),
    "running": ("running", "运行中"),
    "queued": ("waiting", "等待中"),
    "n running": ("{n} running", "{n} 个运行中"),
    "n queued": ("{n} waiting", "{n} 个等待中"),
    "n nodes": ("{n} nodes", "{n} 个节点"),
    "one node": ("1 node", "1 个节点"),
    "up": ("up {span}", "已运行 {span}"),
    "cost": ("cost", "费用"),
    "spent": ("cost so far {cost}", "迄今费用 {cost}"),
    "own only": ("calls of your token", "仅您的令牌的调用"),
    "status": ("status", "状态"),
    "connected": ("connected", "已连接"),
    "draining": ("draining", "排空中"),
    "resting": ("resting", "暂停"),
    "silent": ("silent", "无响应"),
    "away": ("away", "已断开"),
    "slots": ("slots", "槽位"),
    "cpu": ("CPU", "CPU"),
    "memory": ("memory", "内存"),
    "gpu": ("GPU", "GPU"),
    "gpu memory": ("GPU memory", "显存"),
    "temperature": ("temperature", "温度"),
    "power": ("power", "功率"),
    "use": ("use", "利用率"),
    "progress": ("progress", "进度"),
    "time": ("time", "时间"),
    "versions": ("versions", "版本"),
    "version": ("version", "版本"),
    "stale": ("{nodes} still older", "{nodes} 仍为旧版本"),
    "newest": ("newest", "最新"),
    "what happened": ("what happened", "发生了什么"),
    "ago": ("{span} ago", "{span}前"),
    "where": ("where", "位置"),
    "filter": ("Filter", "筛选"),
    "filter hint": ("name, host, function or status", "名称、主机、函数或状态"),
    "sort": ("Sort by", "排序"),
    "by name": ("name", "名称"),
    "by cpu": ("CPU", "CPU"),
    "by memory": ("memory", "内存"),
    "by gpu": ("GPU use", "GPU 利用率"),
    "by running": ("running calls", "运行的调用"),
    "by failed": ("failed calls", "失败的调用"),
    "more": ("Show {n} more", "再显示 {n} 个"),
    "fewer": ("Show fewer", "收起"),
    "hidden": ("{n} of {all} match the filter", "{all} 个中有 {n} 个符合筛选"),
    "no match": ("no node matches the filter", "没有符合筛选的节点"),
    "no nodes": ("No node is connected. Add one with: easyremote join", "没有已连接的节点。添加：easyremote join"),
    "no calls": ("nothing runs or waits", "没有运行或等待的调用"),
    "no functions": ("no function is registered", "没有已注册的函数"),
    "no errors": ("no errors", "没有错误"),
    "more calls": ("and {n} more", "还有 {n} 个"),
    "back": ("Back", "返回"),
    "drain": ("Drain", "排空"),
    "drain hint": ("Give this node no new calls; what runs there ends", "不再给此节点新的调用；运行中的会继续到结束"),
    "resume": ("Resume", "恢复"),
    "remove": ("Remove", "移除"),
    "remove hint": ("End this node's process; its calls go elsewhere", "结束此节点的进程；其调用会转到别处"),
    "sure": ("Really? Click again", "确定？请再次点击"),
    "cancel": ("Cancel", "取消"),
    "cancel hint": ("Stop this call, wherever it is", "停止此调用"),
    "close": ("Close monitor", "关闭监视器"),
    "open": ("Open the page of {what}", "打开 {what} 的页面"),
    "host": ("host", "主机"),
    "finished": ("finished", "已完成"),
    "failed": ("failed", "失败"),
    "price": ("price", "价格"),
    "labels": ("labels", "标签"),
    "log": ("Log (its end)", "日志（末尾）"),
    "no log": ("The log of this node is on its own machine.", "此节点的日志在它自己的机器上。"),
    "output": ("Output (its end)", "输出（末尾）"),
    "no output": ("nothing printed yet", "尚无输出"),
    "others output": ("Its output goes to whoever made the call.", "其输出发送给发起该调用的人。"),
    "why it waits": ("Why it waits", "为何等待"),
    "why elsewhere": ("Whoever made the call can ask why it waits.", "发起该调用的人可以查询为何等待。"),
    "sent ahead": (
        "{node} has it already, and begins it as soon as a slot is free there.",
        "{node} 已收到此调用，一有空闲槽位就会开始。",
    ),
    "ended": ("This call has ended.", "此调用已结束。"),
    "node gone": ("This node is gone.", "此节点已离开。"),
    "attempt": ("attempt", "尝试"),
    "owner": ("token", "令牌"),
    "job": ("job", "作业"),
    "id": ("id", "编号"),
    "tasks": ("{n} short calls", "{n} 个短调用"),
    "since": ("connected for", "已连接"),
    "done": ("done", "完成"),
    "lost": ("lost", "丢失"),
    "drained": ("{what} takes no new calls", "{what} 不再接受新的调用"),
    "resumed": ("{what} takes calls again", "{what} 重新接受调用"),
    "removed": ("{what} was removed", "{what} 已移除"),
    "cancelled": ("{what} was cancelled", "{what} 已取消"),
    "busy": ("The kernel is busy: clicks work when the cell ends.", "内核正忙：点击将在单元格结束后生效。"),
    "closed": ("closed; this is the last picture", "已关闭；这是最后的画面"),
    "picture of": ("picture of {at}", "{at} 的画面"),
    "offline": ("The gateway doesn't answer: {why}", "网关没有响应：{why}"),
    "sealed": ("sealed for its caller", "已为调用者加密"),
    "other clients": ("other clients", "其他客户端"),
    "quit": ("q quit  s sort", "q 退出  s 排序"),
    "all": ("all", "全部"),
}

_SPANS = {"en": UNITS_OF_TIME, "zh": ("天", "小时", "分", "秒")}


class Words:
    """`words("drain")` in one language."""

    def __init__(self, language: str) -> None:
        if language not in LANGUAGES:
            raise UsageError(f"the monitor speaks {' and '.join(LANGUAGES)}, not {language[:20]!r}")
        self.language = language
        self._index = LANGUAGES.index(language)

    def __call__(self, key: str, /, **values: object) -> str:
        text = _CATALOGUE[key][self._index]
        return text.format(**values) if values else text

    def status(self, status: str) -> str:
        """A node's status; one that a newer gateway has is shown as it came."""
        return self(status) if status in STATUS_MARKS else status

    def span(self, seconds: float) -> str:
        """The two largest units, e.g. `3 d 4 h`; below a minute `5 s`."""
        return format_span(seconds, _SPANS[self.language])


STATUS_MARKS: Mapping[str, str] = {"connected": "●", "draining": "◐", "resting": "▲", "silent": "■", "away": "○"}
"""A shape for each, so that nobody has to tell colours apart."""


def language_of(wanted: str | None = None, environment: Mapping[str, str] | None = None) -> str:
    """The wanted one, else that of EASYREMOTE_LANG or of the locale, else English. Raises UsageError for one there is none of."""
    if wanted:
        return Words(wanted).language
    environment = os.environ if environment is None else environment
    names = ("EASYREMOTE_LANG", "LC_ALL", "LC_MESSAGES", "LANG")
    found = next((environment[name] for name in names if environment.get(name)), "")
    return "zh" if found.lower().startswith("zh") else "en"
