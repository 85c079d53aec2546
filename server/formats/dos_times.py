"""Dates and times as DOS packed them, in FAT, exFAT and ZIP."""

from calendar import timegm


def timestamp(date: int, time: int) -> int:
    """Return seconds since 1970 of a FAT date and time ("Date and Time Formats"); 0 if they are invalid.

    Five bits hold more than the 30 double seconds of a minute: 60 and 62, which some writers leave, are taken for 59.
    """
    year, month, day = 1980 + (date >> 9), date >> 5 & 15, date & 31
    hour, minute, second = time >> 11, time >> 5 & 63, min((time & 31) * 2, 59)
    if not 1 <= month <= 12 or day == 0 or hour > 23 or minute > 59:
        return 0
    return timegm((year, month, day, hour, minute, second))
